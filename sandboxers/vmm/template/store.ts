/**
 * The directory of templates. Several processes can share it: whoever makes a template of a kind
 * holds that kind's lock meanwhile, and what is not finished is locked too, so that what a killed
 * process left can be told from what another one is working at.
 *
 * @module
 */

import { abortError, SandboxError } from "../../lifecycle/errors.ts";
import type { Log } from "../../log.ts";
import type { TemplateHost } from "./key.ts";
import {
  finish,
  lastUse,
  markUsed,
  readTemplate,
  shortKey,
  type TemplateNote,
} from "./template_files.ts";

/** A template on disk. */
export interface StoredTemplate {
  /** Its directory. */
  readonly directory: string;
  /** What it is. */
  readonly note: TemplateNote;
}

/** A template that is being made. */
export interface UnfinishedTemplate extends AsyncDisposable {
  /** Its directory, which VMMs can get to. Removed when it is disposed of, unless it was published. */
  readonly directory: string;
  /** Gives it its name: from now on it can be found. */
  publish(): Promise<StoredTemplate>;
}

/** Options of {@link TemplateStore}. */
export interface TemplateStoreOptions {
  /** The directory of all templates, an absolute path; made where it is missing. */
  readonly directory: string;
  /** What templates depend on here. */
  readonly host: TemplateHost;
  /** Where notes go. */
  readonly log: Log;
  /** The time in milliseconds since the epoch. */
  readonly now: () => number;
}

/** Where names of templates begin that are not finished, and names of locks. */
const UNFINISHED = ".new-";
const LOCK = ".lock-";

/** How often a lock is tried that another process has, in milliseconds. */
const LOCK_MS = 50;

/** How long a template that was used is kept at least, in milliseconds: its clone is starting. */
const IN_USE_MS = 60_000;

/** The directory of templates. */
export class TemplateStore {
  readonly #options: TemplateStoreOptions;

  /** Touches nothing yet. */
  constructor(options: TemplateStoreOptions) {
    this.#options = options;
  }

  /** Removes what killed processes left, what is damaged and what is of an earlier start of the host. */
  async clean(): Promise<void> {
    const { host, log } = this.#options;
    for (const name of await this.#names()) {
      const directory = this.#path(name);
      if (name.startsWith(UNFINISHED)) {
        if (await isLocked(`${directory}/${LOCK}`)) continue;
      } else {
        const note = await readTemplate(directory).catch((error: unknown) => {
          log.info("a template is removed", { error: SandboxError.from(error) });
        });
        if (note?.host.bootId === host.bootId) continue;
      }
      await this.#removeDirectory(directory);
    }
  }

  /**
   * Finds a template that is whole.
   *
   * @param key Its key.
   */
  async find(key: string): Promise<StoredTemplate | undefined> {
    for (const name of await this.#names()) {
      if (!name.startsWith(`${shortKey(key)}-`)) continue;
      const directory = this.#path(name);
      try {
        const note = await readTemplate(directory);
        if (note.key === key) return { directory, note };
      } catch (error) {
        this.#options.log.info("a template is removed", { error: SandboxError.from(error) });
        await this.#removeDirectory(directory);
      }
    }
    return undefined;
  }

  /**
   * Waits until no other process makes a template of this key.
   *
   * @param key The key.
   * @param signal Ends the waiting.
   * @returns To be disposed of when it is made.
   */
  async lock(key: string, signal: AbortSignal): Promise<Disposable> {
    await this.#makeParent();
    const path = this.#path(`${LOCK}${shortKey(key)}`);
    const file = await Deno.open(path, { write: true, create: true, mode: 0o600 });
    try {
      while (!await file.tryLock(true)) {
        if (signal.aborted) throw abortError(signal, "cannot wait for another process's template");
        await new Promise((resolve) => setTimeout(resolve, LOCK_MS));
      }
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /**
   * Begins a template.
   *
   * @param key Its key.
   */
  async begin(key: string): Promise<UnfinishedTemplate> {
    await this.#makeParent();
    const directory = this.#path(`${UNFINISHED}${crypto.randomUUID().slice(0, 8)}`);
    await Deno.mkdir(directory, { mode: 0o711 });
    const lockPath = `${directory}/${LOCK}`;
    const lock = await Deno.open(lockPath, { write: true, create: true, mode: 0o600 });
    await lock.lock(true);
    let isPublished = false;
    return {
      directory,
      publish: async () => {
        await Deno.remove(lockPath);
        const name = `${shortKey(key)}-${crypto.randomUUID().slice(0, 8)}`;
        const note = await finish(directory, this.#path(name), { key, host: this.#options.host });
        isPublished = true;
        return { directory: this.#path(name), note };
      },
      [Symbol.asyncDispose]: async () => {
        lock.close();
        if (!isPublished) await this.#removeDirectory(directory);
      },
    };
  }

  /** Takes note that a template is used now; other processes leave it alone for a while then. */
  async touch({ directory }: StoredTemplate): Promise<void> {
    await markUsed(directory, this.#options.now());
  }

  /** Removes a template. Clones that run have its pages open. Never throws. */
  async remove({ directory }: StoredTemplate): Promise<void> {
    await this.#removeDirectory(directory);
  }

  /**
   * Removes those that were not used for longest, until there are not too many. Those that were used
   * a moment ago stay.
   *
   * @param countMax How many may stay.
   * @returns The directories of those that were removed.
   */
  async trim(countMax: number): Promise<string[]> {
    const found: { readonly directory: string; readonly usedAt: number }[] = [];
    for (const name of await this.#names()) {
      const directory = this.#path(name);
      const usedAt = name.startsWith(UNFINISHED) ? undefined : await lastUse(directory);
      if (usedAt !== undefined) found.push({ directory, usedAt });
    }
    const surplus = found.sort((a, b) => a.usedAt - b.usedAt)
      .slice(0, Math.max(0, found.length - countMax))
      .filter(({ usedAt }) => this.#options.now() - usedAt >= IN_USE_MS)
      .map(({ directory }) => directory);
    for (const directory of surplus) await this.#removeDirectory(directory);
    return surplus;
  }

  async #makeParent(): Promise<void> {
    await Deno.mkdir(this.#options.directory, { recursive: true, mode: 0o711 });
  }

  /** The names of all directories of templates, finished or not. */
  async #names(): Promise<string[]> {
    try {
      const entries = await Array.fromAsync(Deno.readDir(this.#options.directory));
      return entries.filter(({ isDirectory }) => isDirectory).map(({ name }) => name).sort();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  }

  #path(name: string): string {
    return `${this.#options.directory}/${name}`;
  }

  /** Removes a directory; another process may be doing so too. Never throws. */
  async #removeDirectory(directory: string): Promise<void> {
    try {
      await Deno.remove(directory, { recursive: true });
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      this.#options.log.warn("cannot remove a template", { error: SandboxError.from(error) });
    }
  }
}

/** Whether a process holds a lock. A lock that is not there is not held. */
async function isLocked(path: string): Promise<boolean> {
  try {
    using file = await Deno.open(path, { write: true });
    return !await file.tryLock(true);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
