/**
 * Templates: machines that were booted once, up to an agent that answers, and saved with their
 * memory. Clones of one share its pages. There is one for each kind of machine, made when it is
 * first asked for; one that is stale, damaged or missing is made again. Nothing that goes wrong here
 * fails a pod: whoever asks is told that there is none, and boots.
 *
 * @module
 */

import { abortError, SandboxError } from "../../lifecycle/errors.ts";
import type { Log } from "../../log.ts";
import type { MachineSpec, SavedMachine } from "../hypervisor.ts";
import type { SavedMachines } from "../machines.ts";
import { type BuilderOptions, buildTemplate } from "./builder.ts";
import { type TemplateHost, TemplateKeys } from "./key.ts";
import { type StoredTemplate, TemplateStore } from "./store.ts";
import { isThere } from "./template_files.ts";

/** Options of {@link Templates}. */
export interface TemplatesOptions extends BuilderOptions {
  /**
   * Where templates are, an absolute path that VMMs can get to; made where it is missing. In memory
   * (tmpfs) clones start quickest. Other processes may use it too.
   */
  readonly directory: string;
  /** What templates depend on here. */
  readonly host: TemplateHost;
  /** How many are kept; those that were not used for longest go. At least 1. */
  readonly countMax: number;
  /** Where notes go. */
  readonly log: Log;
  /** How long making one may take, in milliseconds. Default two minutes. */
  readonly buildTimeoutMs?: number;
  /** The time in milliseconds since the epoch. Default: the clock of this machine. */
  readonly now?: () => number;
}

/** How often making a kind's template failed, or a clone of it, and until when not to try again. */
interface Failures {
  count: number;
  until: number;
}

const BUILD_MS = 120_000;

/** How long not to try after the first failure, and at most, in milliseconds; it doubles each time. */
const PAUSE_MS = 1000;
const PAUSE_MS_MAX = 10 * 60_000;

/** After so long without another one a failure counts as the first again, in milliseconds. */
const FORGIVEN_MS = 5 * 60_000;

/** Most kinds that wait for their template to be made. */
const WAITING_MAX = 8;

/** Most kinds whose failures are remembered. */
const FAILURES_MAX = 256;

/** Templates. */
export class Templates implements SavedMachines {
  readonly #options: TemplatesOptions;
  readonly #keys: TemplateKeys;
  readonly #store: TemplateStore;
  readonly #templates = new Map<string, StoredTemplate>();
  readonly #builds = new Map<string, Promise<StoredTemplate | undefined>>();
  readonly #failures = new Map<string, Failures>();
  readonly #removals = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  readonly #now: () => number;
  #opened: Promise<void> | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #built = 0;
  #failed = 0;

  /** Touches nothing yet. */
  constructor(options: TemplatesOptions) {
    this.#options = options;
    this.#keys = new TemplateKeys(options.host);
    this.#now = options.now ?? Date.now;
    this.#store = new TemplateStore({ ...options, now: this.#now });
  }

  /**
   * The template of a machine. Whoever asks first waits until it is made, and so do all who ask
   * meanwhile; while one of another kind is being made nobody waits.
   *
   * @param spec The machine.
   * @param signal Ends the waiting; the making goes on, for the next one.
   * @returns Undefined where there is none now: boot instead.
   * @throws {SandboxError} `Cancelled`, `DeadlineExceeded` by the signal; nothing else.
   */
  async get(spec: MachineSpec, signal: AbortSignal): Promise<SavedMachine | undefined> {
    if (signal.aborted) throw abortError(signal, "cannot wait for a template");
    if (this.#closing.signal.aborted || !this.#canHave(spec)) return undefined;
    const { promise: interrupted, reject } = Promise.withResolvers<never>();
    const onAbort = () => reject(abortError(signal, "cannot wait for a template"));
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      const template = await Promise.race([this.#find(spec), interrupted]);
      if (template === undefined) return undefined;
      return { directory: template.directory, spec };
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Takes note that a clone of a template failed. It is not used again; the next one who asks has it
   * made anew, not at once where that happens again and again.
   *
   * @param saved What {@link Templates.get} had given.
   */
  reject(saved: SavedMachine): void {
    const template = [...this.#templates.values()]
      .find(({ directory }) => directory === saved.directory);
    // Another one may have said so before; there is a new one then.
    if (template === undefined) return;
    this.#fail(template.note.key);
    this.#drop(template);
  }

  /** How many are known, and how many were made or could not be. */
  get counts(): { readonly known: number; readonly built: number; readonly failed: number } {
    return { known: this.#templates.size, built: this.#built, failed: this.#failed };
  }

  /** Ends what is being made. Templates stay on disk. */
  async close(): Promise<void> {
    this.#closing.abort(new SandboxError("Cancelled", "the sandboxer ends"));
    await Promise.allSettled([...this.#builds.values(), ...this.#removals]);
  }

  /** Whether machines of this kind can have one. */
  #canHave(spec: MachineSpec): boolean {
    const { hypervisor, sharedTree } = this.#options;
    return hypervisor.clone !== undefined && (!spec.sharedTree || sharedTree !== undefined);
  }

  /** Finds a template or makes it. Never throws. */
  async #find(spec: MachineSpec): Promise<StoredTemplate | undefined> {
    const { log } = this.#options;
    try {
      await this.#open();
      const key = await this.#keys.keyOf(spec);
      const known = this.#templates.get(key);
      if (known === undefined) return await this.#make(key, spec);
      if (await isThere(known.directory, known.note)) {
        await this.#store.touch(known);
        return known;
      }
      log.warn("a template is not as it was made", { template: known.directory });
      // Somebody else may have put another one in its place.
      if (this.#templates.get(key) === known) this.#drop(known);
      return await this.#make(key, spec);
    } catch (error) {
      log.warn("cannot look for a template", { error: SandboxError.from(error) });
      return undefined;
    }
  }

  /** Makes one; undefined where that is not the time to, or fails. */
  async #make(key: string, spec: MachineSpec): Promise<StoredTemplate | undefined> {
    const running = this.#builds.get(key);
    if (running !== undefined) return await running;
    if ((this.#failures.get(key)?.until ?? 0) > this.#now()) return undefined;
    if (this.#closing.signal.aborted || this.#builds.size >= WAITING_MAX) return undefined;
    const isFirst = this.#builds.size === 0;
    const build = this.#turn.then(() => this.#build(key, spec)).finally(() =>
      this.#builds.delete(key)
    );
    this.#builds.set(key, build);
    this.#turn = build;
    return isFirst ? await build : undefined;
  }

  /** Makes one, unless another process has. Never throws. */
  async #build(key: string, spec: MachineSpec): Promise<StoredTemplate | undefined> {
    const { log, buildTimeoutMs = BUILD_MS } = this.#options;
    const timeout = new AbortController();
    const timer = setTimeout(
      () => timeout.abort(new DOMException("it took too long", "TimeoutError")),
      buildTimeoutMs,
    );
    const signal = AbortSignal.any([this.#closing.signal, timeout.signal]);
    try {
      signal.throwIfAborted();
      using _ = await this.#store.lock(key, signal);
      const template = await this.#store.find(key) ?? await this.#buildNew(key, spec, signal);
      this.#templates.set(key, template);
      await this.#store.touch(template);
      await this.#trim();
      return template;
    } catch (error) {
      if (this.#closing.signal.aborted) return undefined;
      this.#failed++;
      const until = this.#fail(key);
      log.warn("cannot make a template: pods are booted", {
        error: SandboxError.from(error),
        nextTryMs: until - this.#now(),
      });
      return undefined;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Makes one; this process has the lock. */
  async #buildNew(key: string, spec: MachineSpec, signal: AbortSignal): Promise<StoredTemplate> {
    const begin = this.#now();
    await using unfinished = await this.#store.begin(key);
    await buildTemplate(spec, unfinished.directory, this.#options, signal);
    const template = await unfinished.publish();
    this.#built++;
    const { directory, note } = template;
    const bytes = note.files.reduce((sum, file) => sum + file.bytes, 0);
    this.#options.log.info("made a template", {
      template: directory,
      ms: this.#now() - begin,
      bytes,
    });
    return template;
  }

  /** Takes note of a failure. @returns Until when not to try again. */
  #fail(key: string): number {
    if (this.#failures.size >= FAILURES_MAX) this.#failures.clear();
    const last = this.#failures.get(key);
    const isForgiven = last === undefined || this.#now() - last.until > FORGIVEN_MS;
    const count = isForgiven ? 1 : last.count + 1;
    const until = this.#now() + Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (count - 1));
    this.#failures.set(key, { count, until });
    return until;
  }

  /** Cleans up once, before the first template is looked for. */
  async #open(): Promise<void> {
    this.#opened ??= this.#store.clean();
    try {
      await this.#opened;
    } catch (error) {
      // What failed may be mended by the next time.
      this.#opened = undefined;
      throw error;
    }
  }

  /** Removes surplus ones. */
  async #trim(): Promise<void> {
    const removed = await this.#store.trim(this.#options.countMax);
    for (const [key, { directory }] of this.#templates) {
      if (removed.includes(directory)) this.#templates.delete(key);
    }
  }

  /** Forgets a template and removes it. */
  #drop(template: StoredTemplate): void {
    this.#templates.delete(template.note.key);
    const removal = this.#store.remove(template).finally(() => this.#removals.delete(removal));
    this.#removals.add(removal);
  }
}
