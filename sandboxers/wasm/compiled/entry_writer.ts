/**
 * Writes one file of the cache: under a temporary name first, renamed when all of it is on the disk.
 * While it is written it is locked, so that what a crash has left can be told from what another
 * process is writing.
 *
 * @module
 */

import { encodeTrailer, type EntryRecord, newHash } from "./entry.ts";

/** How names of unfinished files begin. */
export const TEMPORARY_PREFIX = ".tmp-";

/** Whether files can be made in a directory. */
export type Probe =
  | { readonly kind: "writable"; readonly owner: number | null }
  | { readonly kind: "readonly"; readonly reason: string };

/** An unfinished file. Disposing of it removes it, unless it was renamed. */
export class EntryWriter implements AsyncDisposable {
  readonly #hash = newHash();
  #bytes = 0;
  #isOpen = true;
  #isTemporary = true;

  private constructor(readonly path: string, readonly file: Deno.FsFile) {}

  /**
   * Makes an empty file.
   *
   * @param directory An absolute path.
   */
  static async create(directory: string): Promise<EntryWriter> {
    const path = `${directory}/${TEMPORARY_PREFIX}${crypto.randomUUID()}`;
    const file = await Deno.open(path, { write: true, createNew: true, mode: 0o600 });
    await file.tryLock(true).catch(() => false);
    return new EntryWriter(path, file);
  }

  /** Tries whether files can be made in a directory, and whose they are then. */
  static async probe(directory: string): Promise<Probe> {
    try {
      await using writer = await EntryWriter.create(directory);
      return { kind: "writable", owner: (await writer.file.stat()).uid };
    } catch (error) {
      return { kind: "readonly", reason: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Removes the unfinished files of processes that are gone. */
  static async sweep(directory: string): Promise<void> {
    const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
    for (const name of names) {
      if (!name.startsWith(TEMPORARY_PREFIX)) continue;
      await removeUnlocked(`${directory}/${name}`).catch(() => undefined);
    }
  }

  /** Adds to the library. */
  async write(chunk: Uint8Array): Promise<void> {
    this.#hash.update(chunk);
    await this.#append(chunk);
  }

  /**
   * Puts the record behind the library.
   *
   * @param record What it says beside the library's hash and size.
   * @returns The size of the whole file in bytes.
   */
  async finish(record: Pick<EntryRecord, "module" | "key" | "createdAtMs">): Promise<number> {
    const library = this.#hash.digest("hex");
    await this.#append(encodeTrailer({ ...record, library, libraryBytes: this.#bytes }));
    return this.#bytes;
  }

  /** Gives the file its name, after all of it is on the disk. */
  async rename(path: string): Promise<void> {
    await this.file.syncData();
    await Deno.rename(this.path, path);
    this.#isTemporary = false;
    this.#close();
  }

  async #append(chunk: Uint8Array): Promise<void> {
    for (let written = 0; written < chunk.length;) {
      written += await this.file.write(chunk.subarray(written));
    }
    this.#bytes += chunk.length;
  }

  #close(): void {
    if (this.#isOpen) this.file.close();
    this.#isOpen = false;
  }

  /** Removes the file, unless it has got its name. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isTemporary) await Deno.remove(this.path).catch(() => undefined);
    this.#isTemporary = false;
    this.#close();
  }
}

async function removeUnlocked(path: string): Promise<void> {
  using file = await Deno.open(path, { write: true });
  if (await file.tryLock(true)) await Deno.remove(path);
}
