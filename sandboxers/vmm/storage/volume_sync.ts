/**
 * Keeps a copy of a small file tree in the guest up to date: what the file system reports as changed
 * is looked at shortly after, and all of it from time to time, as not every file system reports.
 *
 * @module
 */

import type { VolumeEntry } from "../../../guest/protocol/messages.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { Serial } from "../../lifecycle/serial.ts";
import type { Log } from "../../log.ts";
import { scanTree, type Tree, treeChanges, type TreeLimits } from "./tree_scan.ts";
import { volumeEntries } from "./volume_entries.ts";

/** How long changes are collected, in milliseconds. */
const DEBOUNCE_MS = 50;
/** How often everything is looked at where changes are reported, in milliseconds. */
const WATCHED_RESCAN_MS = 60_000;
/** The same where they are not, or the last look failed. */
const UNWATCHED_RESCAN_MS = 5_000;
/** Volumes that are watched at a time: each takes an inotify instance, of which a user has 128. */
const WATCHERS_MAX = 48;

let watchers = 0;

/** What a {@link VolumeSync} works with. */
export interface VolumeSyncOptions {
  /** The tree on the host: a directory, or a single file. */
  readonly source: string;
  /** How large it may be. */
  readonly limits: TreeLimits;
  /** Sends changes to the guest. */
  send(entries: readonly VolumeEntry[]): Promise<void>;
  /** Takes note of what the guest has, for the next process. */
  remember(tree: Tree): Promise<void>;
  /** For what went wrong and was survived. */
  readonly log: Log;
  /** Watches files (default: the file system's own reports). */
  readonly watchFiles?: (paths: string[]) => Deno.FsWatcher;
  /** How often everything is looked at where nothing is reported, in milliseconds (default 5000). */
  readonly rescanMs?: number;
}

/** A copy of a tree in the guest. */
export class VolumeSync implements Disposable {
  readonly #options: VolumeSyncOptions;
  readonly #serial = new Serial();
  #sent: Tree;
  #watcher: Deno.FsWatcher | undefined;
  #watched = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #dueAt = Infinity;
  #watching = false;
  #failure = "";

  /**
   * Sends nothing yet.
   *
   * @param options See {@link VolumeSyncOptions}.
   * @param sent What the guest has already.
   */
  constructor(options: VolumeSyncOptions, sent: Tree = new Map()) {
    this.#options = options;
    this.#sent = sent;
  }

  /**
   * Brings the guest up to date now.
   *
   * @throws {SandboxError} `FailedPrecondition` where the tree has grown too large for a copy; what
   *   the guest answers.
   */
  async update(): Promise<void> {
    await this.#serial.run(() => this.#update());
  }

  /** Brings the guest up to date from now on. Failures are logged and tried again. */
  watch(): void {
    this.#watching = true;
    this.#plan(0);
  }

  /** Stops. What is on its way still arrives. */
  [Symbol.dispose](): void {
    this.#watching = false;
    clearTimeout(this.#timer);
    this.#closeWatcher();
  }

  async #update(): Promise<void> {
    const { source, limits, send, remember } = this.#options;
    const scan = await scanTree(source, limits);
    if (scan.kind === "unfit") {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot bring the volume "${source}" up to date: ${scan.reason}`,
      );
    }
    if (this.#watching) this.#watch(scan.tree);
    const changes = treeChanges(this.#sent, scan.tree);
    if (changes.length > 0) {
      for await (const entries of volumeEntries(source, changes)) await send(entries);
      this.#sent = scan.tree;
      await remember(scan.tree);
    }
  }

  /** Looks again after some time, unless it is to be sooner already. */
  #plan(delayMs: number): void {
    const at = Date.now() + delayMs;
    if (!this.#watching || at >= this.#dueAt) return;
    clearTimeout(this.#timer);
    this.#dueAt = at;
    this.#timer = setTimeout(() => void this.#look(), delayMs);
    Deno.unrefTimer(Number(this.#timer));
  }

  async #look(): Promise<void> {
    this.#dueAt = Infinity;
    let failed = false;
    try {
      await this.update();
      this.#failure = "";
    } catch (error) {
      if (!this.#watching) return;
      failed = true;
      this.#complain(String(error));
    }
    const isWatched = this.#watcher !== undefined && !failed;
    const { rescanMs = UNWATCHED_RESCAN_MS } = this.#options;
    this.#plan(isWatched ? WATCHED_RESCAN_MS : rescanMs);
  }

  /** Says what went wrong, and the same once only. */
  #complain(failure: string): void {
    if (this.#failure === failure) return;
    this.#failure = failure;
    const { source, log } = this.#options;
    log.warn("a volume cannot be brought up to date", { source, error: failure });
  }

  /** Watches the directories of the tree. */
  #watch(tree: Tree): void {
    const { source } = this.#options;
    const paths = [...tree].filter(([path, { kind }]) => kind === "directory" || path === ".")
      .map(([path]) => path === "." ? source : `${source}/${path}`);
    const wanted = paths.join("\0");
    if (wanted === this.#watched) return;
    this.#closeWatcher();
    if (watchers >= WATCHERS_MAX || paths.length === 0) return;
    try {
      const { watchFiles = watchDirectories } = this.#options;
      this.#watcher = watchFiles(paths);
    } catch {
      // Too many are watched, or a directory has gone: then all is looked at more often.
      return;
    }
    watchers++;
    this.#watched = wanted;
    void this.#listen(this.#watcher);
    // What happened between the look and the watch was not reported.
    this.#plan(DEBOUNCE_MS);
  }

  async #listen(watcher: Deno.FsWatcher): Promise<void> {
    try {
      for await (const { kind } of watcher) {
        if (kind !== "access" && this.#watcher === watcher) this.#plan(DEBOUNCE_MS);
      }
    } catch (error) {
      const { source, log } = this.#options;
      log.debug("a volume is no longer watched", { source, error: String(error) });
      if (this.#watcher === watcher) this.#closeWatcher();
    }
  }

  #closeWatcher(): void {
    this.#watched = "";
    if (this.#watcher === undefined) return;
    const watcher = this.#watcher;
    this.#watcher = undefined;
    watchers--;
    try {
      watcher.close();
    } catch {
      // It has ended by itself.
    }
  }
}

/** Without what is below them: links are followed there, and they may lead anywhere. */
function watchDirectories(paths: string[]): Deno.FsWatcher {
  return Deno.watchFs(paths, { recursive: false });
}
