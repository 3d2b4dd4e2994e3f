/**
 * Crash-safe state: one directory per sandbox, its record written to a temporary file, synced,
 * renamed over the old one, and the directory synced. After a crash at any moment the old record or
 * the new one is there, whole.
 *
 * @module
 */

import type { Disk } from "./disk.ts";
import { realDisk } from "./disk.ts";
import { SandboxError } from "./errors.ts";
import { checkId } from "./ids.ts";
import { parseRecord, type SandboxRecord } from "./record.ts";

/** What was found in a store. */
export interface StoreContents {
  readonly records: readonly SandboxRecord[];
  /** Sandboxes whose record cannot be read, with the reason; they were moved aside. */
  readonly damaged: readonly { readonly id: string; readonly reason: string }[];
}

/** Keeps records. Calls for one sandbox never overlap. */
export interface Store {
  /** Writes a record, replacing the one before. On failure the one before is still there. */
  put(record: SandboxRecord): Promise<void>;
  /** Removes a record; succeeds where there is none. */
  delete(id: string): Promise<void>;
  /** Reads everything, once, at start-up. */
  load(): Promise<StoreContents>;
}

const RECORD = "record.json";
const TEMPORARY = "record.json.tmp";

/** A store in a directory. */
export class FileStore implements Store {
  readonly #root: string;
  readonly #aside: string;
  readonly #disk: Disk;

  /**
   * @param directory Holds `sandboxes/` and, for records that cannot be read, `damaged/`.
   * @param disk The disk; the real one unless a simulation gives another.
   */
  constructor(directory: string, disk: Disk = realDisk) {
    this.#root = `${directory}/sandboxes`;
    this.#aside = `${directory}/damaged`;
    this.#disk = disk;
  }

  /** @inheritdoc */
  async put(record: SandboxRecord): Promise<void> {
    const { id } = record.spec;
    checkId("sandbox id", id);
    const directory = `${this.#root}/${id}`;
    try {
      await this.#disk.makeDirectory(directory);
      await this.#disk.writeSynced(`${directory}/${TEMPORARY}`, JSON.stringify(record));
      await this.#disk.rename(`${directory}/${TEMPORARY}`, `${directory}/${RECORD}`);
      await this.#disk.sync(directory);
    } catch (error) {
      throw SandboxError.from(error, `cannot store the state of sandbox "${id}"`);
    }
  }

  /** @inheritdoc */
  async delete(id: string): Promise<void> {
    checkId("sandbox id", id);
    const directory = `${this.#root}/${id}`;
    try {
      // The record goes first: a directory without one is rubbish to the next load, never a sandbox.
      await this.#disk.remove(`${directory}/${RECORD}`);
      await this.#disk.remove(directory);
      await this.#disk.sync(this.#root);
    } catch (error) {
      throw SandboxError.from(error, `cannot remove the state of sandbox "${id}"`);
    }
  }

  /** @inheritdoc */
  async load(): Promise<StoreContents> {
    await this.#disk.makeDirectory(this.#root);
    const records: SandboxRecord[] = [];
    const damaged: { id: string; reason: string }[] = [];
    for (const id of await this.#disk.list(this.#root)) {
      const text = await this.#disk.read(`${this.#root}/${id}/${RECORD}`);
      if (text === undefined) {
        await this.#disk.remove(`${this.#root}/${id}`);
        continue;
      }
      try {
        const record = parseRecord(text);
        if (record.spec.id !== id) {
          throw new SandboxError("DataLoss", `record of sandbox "${record.spec.id}" found instead`);
        }
        records.push(record);
      } catch (error) {
        damaged.push({ id, reason: SandboxError.from(error).message });
        await this.#setAside(id);
      }
    }
    return { records, damaged };
  }

  async #setAside(id: string): Promise<void> {
    await this.#disk.makeDirectory(this.#aside);
    await this.#disk.remove(`${this.#aside}/${id}`);
    await this.#disk.rename(`${this.#root}/${id}`, `${this.#aside}/${id}`);
  }
}

/** A store for sandboxers that nobody restarts: the embedded ones of the command line and the SDK. */
export class MemoryStore implements Store {
  /** @inheritdoc */
  put(_record: SandboxRecord): Promise<void> {
    return Promise.resolve();
  }

  /** @inheritdoc */
  delete(_id: string): Promise<void> {
    return Promise.resolve();
  }

  /** @inheritdoc */
  load(): Promise<StoreContents> {
    return Promise.resolve({ records: [], damaged: [] });
  }
}
