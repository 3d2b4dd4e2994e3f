/**
 * Crash-safe state: one directory per sandbox, its record written to a temporary file, synced,
 * renamed over the old one, and the directory synced. After a crash at any moment the old record or
 * the new one is there, whole.
 *
 * @module
 */

import type { Disk } from "./disk.ts";
import { realDisk } from "./disk.ts";
import { attempt, SandboxError } from "./errors.ts";
import { checkId } from "./ids.ts";
import { parseRecord, type SandboxRecord } from "./record.ts";

/** What was found in a store. */
export interface StoreContents {
  /** Every record that can be read. */
  readonly records: readonly SandboxRecord[];
  /** Sandboxes whose record cannot be read, with the reason and where it was moved to. */
  readonly damaged: readonly { readonly id: string; readonly reason: string }[];
}

/** Keeps records. Calls for one sandbox never overlap. */
export interface Store {
  /** Writes a record. On failure the one before, or already the new one, is there. */
  put(record: SandboxRecord): Promise<void>;
  /** Removes a record; succeeds where there is none. */
  delete(id: string): Promise<void>;
  /**
   * Reads everything, once, at start-up.
   *
   * @throws SandboxError when the state directory cannot be read; `FailedPrecondition` when something
   *   in it was written by a later version, and then nothing was changed.
   */
  load(): Promise<StoreContents>;
}

const RECORD = "record.json";
const TEMPORARY = "record.json.tmp";

/** A store in a directory. */
export class FileStore implements Store {
  readonly #directory: string;
  readonly #root: string;
  readonly #aside: string;
  readonly #disk: Disk;
  /** Sandboxes whose directory is known to be in stable storage. */
  readonly #known = new Set<string>();

  /**
   * A store that has touched nothing yet.
   *
   * @param directory Holds `sandboxes/` and, for records that cannot be read, `damaged/`.
   * @param disk The disk; the real one unless a simulation gives another.
   */
  constructor(directory: string, disk: Disk = realDisk) {
    this.#directory = directory;
    this.#root = `${directory}/sandboxes`;
    this.#aside = `${directory}/damaged`;
    this.#disk = disk;
  }

  /** See {@link Store.put}. */
  async put(record: SandboxRecord): Promise<void> {
    const { id } = record.spec;
    checkId("sandbox id", id);
    const directory = `${this.#root}/${id}`;
    await attempt(`cannot store the state of sandbox "${id}"`, async () => {
      await this.#disk.makeDirectory(directory);
      await this.#disk.writeSynced(`${directory}/${TEMPORARY}`, JSON.stringify(record));
      await this.#disk.rename(`${directory}/${TEMPORARY}`, `${directory}/${RECORD}`);
      const known = this.#known.has(id);
      // Side by side: one commit of the file system's journal serves both.
      await Promise.all(
        (known ? [directory] : [directory, this.#root]).map((path) => this.#disk.sync(path)),
      );
      this.#known.add(id);
    });
  }

  /** See {@link Store.delete}. */
  async delete(id: string): Promise<void> {
    checkId("sandbox id", id);
    const directory = `${this.#root}/${id}`;
    this.#known.delete(id);
    await attempt(`cannot remove the state of sandbox "${id}"`, async () => {
      // The record goes first: a directory without one is rubbish to the next load, never a sandbox.
      await this.#disk.remove(`${directory}/${RECORD}`);
      await this.#disk.remove(directory);
      await this.#disk.sync(this.#root);
    });
  }

  /** See {@link Store.load}. */
  async load(): Promise<StoreContents> {
    const records: SandboxRecord[] = [];
    const damaged: { id: string; reason: string }[] = [];
    const names = await attempt("cannot read the state directory", async () => {
      await this.#disk.makeDirectory(this.#root);
      await this.#disk.sync(this.#directory);
      return await this.#disk.list(this.#root);
    });
    const unreadable: { id: string; error: SandboxError }[] = [];
    for (const id of names) {
      try {
        const record = await this.#read(id);
        if (record !== undefined) records.push(record);
      } catch (thrown) {
        const error = SandboxError.from(thrown);
        if (error.code === "FailedPrecondition") {
          throw new SandboxError(error.code, `cannot take over sandbox "${id}": ${error.message}`);
        }
        unreadable.push({ id, error });
      }
    }
    // One record that cannot be read must not keep the node's other pods down.
    for (const { id, error } of unreadable) {
      damaged.push({ id, reason: await this.#setAside(id, error.message) });
    }
    return { records, damaged };
  }

  /** A record; undefined where a crash left a directory without one, which is removed. */
  async #read(id: string): Promise<SandboxRecord | undefined> {
    const text = await this.#disk.read(`${this.#root}/${id}/${RECORD}`);
    if (text === undefined) {
      await this.#disk.remove(`${this.#root}/${id}`);
      return undefined;
    }
    const record = parseRecord(text);
    if (record.spec.id === id) return record;
    throw new SandboxError("DataLoss", `record of sandbox "${record.spec.id}" found instead`);
  }

  /** Moves what cannot be read out of the way. Answers what there is to say about it. */
  async #setAside(id: string, reason: string): Promise<string> {
    try {
      await this.#disk.makeDirectory(this.#aside);
      await this.#disk.remove(`${this.#aside}/${id}`);
      await this.#disk.rename(`${this.#root}/${id}`, `${this.#aside}/${id}`);
      return `${reason}; moved to ${this.#aside}/${id}`;
    } catch (error) {
      return `${reason}; cannot move it to ${this.#aside}: ${SandboxError.from(error).message}`;
    }
  }
}

/** A store for sandboxers that nobody restarts: the embedded ones of the command line and the SDK. */
export class MemoryStore implements Store {
  /** See {@link Store.put}. */
  put(_record: SandboxRecord): Promise<void> {
    return Promise.resolve();
  }

  /** See {@link Store.delete}. */
  delete(_id: string): Promise<void> {
    return Promise.resolve();
  }

  /** See {@link Store.load}. */
  load(): Promise<StoreContents> {
    return Promise.resolve({ records: [], damaged: [] });
  }
}
