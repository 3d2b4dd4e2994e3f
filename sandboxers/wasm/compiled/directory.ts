/**
 * The cache of compiled code on disk: one file for each module and key, and a small one for a module
 * that cannot be compiled. What lies here is executed with all rights of the process, so the
 * directory must belong to this user or to root and nobody else may write to it; and no file is
 * used that is not whole. Several processes may use one directory.
 *
 * @module
 */

import { dirname } from "node:path";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { CacheKey } from "./cache_key.ts";
import { type EntryRecord, verifyEntry } from "./entry.ts";
import { EntryWriter } from "./entry_writer.ts";

/** How files of entries and of failures end. */
const LIBRARY_SUFFIX = ".so";
const FAILURE_SUFFIX = ".failed";
const NAME = /^[0-9a-f]{64}\.[0-9a-f]{16}\.(so|failed)$/;
/** Longest file of a failure, in bytes. */
const FAILURE_BYTES_MAX = 65_536;
/** Permission bits with which others may write. */
const WRITABLE_BY_OTHERS = 0o022;

/** Bounds of a directory. */
export interface DirectoryLimits {
  /** Most bytes of all files together. */
  readonly bytesMax: number;
  /** Most files. */
  readonly entriesMax: number;
}

/** How much a directory holds. */
export interface DirectoryUsage {
  /** Files. */
  readonly entries: number;
  /** Their bytes together. */
  readonly bytes: number;
}

interface StoredFile {
  readonly name: string;
  readonly bytes: number;
  readonly usedAtMs: number;
}

/** A directory of compiled code. */
export class CompiledDirectory {
  private constructor(
    /** Its absolute path. */
    readonly path: string,
    /** Why nothing can be written to it; undefined where it can. */
    readonly readonlyReason: string | undefined,
    readonly limits: DirectoryLimits,
    readonly owner: number | null,
  ) {}

  /**
   * Opens a directory, makes it where it is missing, and removes what a crash has left in it.
   *
   * @param path Absolute.
   * @param limits Bounds.
   * @throws {SandboxError} `FailedPrecondition` where it cannot be trusted or made.
   */
  static async open(path: string, limits: DirectoryLimits): Promise<CompiledDirectory> {
    try {
      // The mode is for all that are made.
      // Other kinds have their caches beside it, which their machines' users must get to.
      await Deno.mkdir(dirname(path), { recursive: true, mode: 0o755 });
      await Deno.mkdir(path, { recursive: true, mode: 0o700 });
    } catch (error) {
      const there = await Deno.lstat(path).catch(() => undefined);
      if (there === undefined) throw untrusted(path, "it cannot be made", error);
    }
    const status = await Deno.lstat(path);
    if (status.isSymlink) throw untrusted(path, "it is a symbolic link");
    if (!status.isDirectory) throw untrusted(path, "it is no directory");
    if (((status.mode ?? 0) & WRITABLE_BY_OTHERS) !== 0) {
      throw untrusted(path, "others may write to it: expected mode 0700");
    }
    const probe = await EntryWriter.probe(path);
    const self = probe.kind === "writable" ? probe.owner : 0;
    if (status.uid !== 0 && status.uid !== self) {
      throw untrusted(path, `it belongs to user ${status.uid}: expected this user or root`);
    }
    const reason = probe.kind === "writable" ? undefined : probe.reason;
    const directory = new CompiledDirectory(path, reason, limits, status.uid);
    if (reason === undefined) await EntryWriter.sweep(path);
    return directory;
  }

  /**
   * Finds a library and verifies it. What does not verify is removed and counts as absent.
   *
   * @param module SHA-256 of the module, in hexadecimal.
   * @param key See {@link CacheKey}.
   * @param onBad Hears of one that does not.
   * @returns Its path.
   */
  async find(module: string, key: CacheKey, onBad: () => void): Promise<string | undefined> {
    const path = this.#file(module, key, LIBRARY_SUFFIX);
    const found = await this.#verify(path, module, key);
    if (found === "absent") return undefined;
    if (found === "bad") {
      onBad();
      await this.#remove(path);
      return undefined;
    }
    const now = new Date();
    // Only the order in which entries go depends on it.
    await Deno.utime(path, now, now).catch(() => undefined);
    return path;
  }

  async #verify(path: string, module: string, key: CacheKey): Promise<"good" | "bad" | "absent"> {
    let file: Deno.FsFile;
    try {
      const status = await Deno.lstat(path);
      if (!status.isFile || status.uid !== this.owner) return "bad";
      if (((status.mode ?? 0) & WRITABLE_BY_OTHERS) !== 0) return "bad";
      file = await Deno.open(path);
    } catch {
      return "absent";
    }
    try {
      const record = await verifyEntry(await reader(file));
      return record !== undefined && fits(record, module, key) ? "good" : "bad";
    } catch {
      return "bad";
    } finally {
      file.close();
    }
  }

  /**
   * Begins a new entry. It is nowhere until {@link CompiledDirectory.store}.
   *
   * @throws {Error} What Deno reports where there is no room or no right.
   */
  async create(): Promise<EntryWriter> {
    return await EntryWriter.create(this.path);
  }

  /**
   * Makes a written entry the one for a module and key.
   *
   * @param writer Has taken the whole library; it is ended here whatever happens.
   * @param keep Entries, by module, that go last when room is needed.
   * @returns Whether there was room for it.
   * @throws {Error} What Deno reports where it cannot be written.
   */
  async store(
    writer: EntryWriter,
    module: string,
    key: CacheKey,
    keep: ReadonlySet<string>,
  ): Promise<boolean> {
    await using owned = writer;
    const record = { module, key: key.text, createdAtMs: Date.now() };
    const bytes = await owned.finish(record);
    if (!await this.#makeRoom(bytes, keep)) return false;
    await owned.rename(this.#file(module, key, LIBRARY_SUFFIX));
    await this.#remove(this.#file(module, key, FAILURE_SUFFIX));
    return true;
  }

  /** Removes a library. */
  async remove(module: string, key: CacheKey): Promise<void> {
    await this.#remove(this.#file(module, key, LIBRARY_SUFFIX));
  }

  /**
   * Remembers that a module cannot be compiled.
   *
   * @param reason Why, for people.
   * @param expiresAtMs When it may be tried again, in milliseconds since the epoch.
   * @throws {Error} What Deno reports where it cannot be written.
   */
  async storeFailure(
    module: string,
    key: CacheKey,
    reason: string,
    expiresAtMs: number,
  ): Promise<void> {
    await using writer = await this.create();
    await writer.write(
      new TextEncoder().encode(JSON.stringify({ reason, expiresAtMs, key: key.text })),
    );
    if (!await this.#makeRoom(FAILURE_BYTES_MAX, new Set())) return;
    await writer.rename(this.#file(module, key, FAILURE_SUFFIX));
  }

  /**
   * Whether it is remembered that a module cannot be compiled.
   *
   * @param nowMs Milliseconds since the epoch.
   */
  async failure(
    module: string,
    key: CacheKey,
    nowMs: number,
  ): Promise<{ readonly reason: string; readonly expiresAtMs: number } | undefined> {
    const path = this.#file(module, key, FAILURE_SUFFIX);
    try {
      const { size } = await Deno.lstat(path);
      if (size > FAILURE_BYTES_MAX) throw new Error("too long");
      const { reason, expiresAtMs, key: of } = JSON.parse(await Deno.readTextFile(path));
      if (typeof reason === "string" && of === key.text && expiresAtMs > nowMs) {
        return { reason, expiresAtMs: Number(expiresAtMs) };
      }
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
    }
    await this.#remove(path);
    return undefined;
  }

  /** What it holds now. */
  async usage(): Promise<DirectoryUsage> {
    const files = await this.#files();
    return { entries: files.length, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0) };
  }

  /** Lets entries go, the least recently used first, until one more fits. */
  async #makeRoom(bytesMore: number, keep: ReadonlySet<string>): Promise<boolean> {
    const { bytesMax, entriesMax } = this.limits;
    if (bytesMore > bytesMax) return false;
    const files = await this.#files();
    const isKept = ({ name }: StoredFile) => keep.has(name.slice(0, 64)) ? 1 : 0;
    // Removing a mapped file does no harm, but its code would have to be made again.
    files.sort((a, b) => isKept(a) - isKept(b) || a.usedAtMs - b.usedAtMs);
    let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    let count = files.length;
    for (const file of files) {
      if (bytes + bytesMore <= bytesMax && count < entriesMax) break;
      await this.#remove(`${this.path}/${file.name}`);
      bytes -= file.bytes;
      count--;
    }
    return bytes + bytesMore <= bytesMax && count < entriesMax;
  }

  async #files(): Promise<StoredFile[]> {
    const files: StoredFile[] = [];
    try {
      for await (const { name } of Deno.readDir(this.path)) {
        if (!NAME.test(name)) continue;
        const status = await Deno.lstat(`${this.path}/${name}`).catch(() => undefined);
        if (status === undefined) continue;
        files.push({ name, bytes: status.size, usedAtMs: status.mtime?.getTime() ?? 0 });
      }
    } catch {
      // A directory that is gone holds nothing.
    }
    return files;
  }

  async #remove(path: string): Promise<void> {
    // Where it cannot be removed, it is found bad again the next time.
    await Deno.remove(path).catch(() => undefined);
  }

  #file(module: string, key: CacheKey, suffix: string): string {
    return `${this.path}/${module}.${key.id}${suffix}`;
  }
}

function fits(record: EntryRecord, module: string, key: CacheKey): boolean {
  return record.module === module && record.key === key.text;
}

async function reader(file: Deno.FsFile) {
  const { size: sizeBytes } = await file.stat();
  return {
    sizeBytes,
    async read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
      const bytes = new Uint8Array(length);
      await file.seek(offset, Deno.SeekMode.Start);
      let filled = 0;
      while (filled < length) {
        const got = await file.read(bytes.subarray(filled));
        if (got === null) break;
        filled += got;
      }
      return bytes.subarray(0, filled);
    },
  };
}

function untrusted(path: string, reason: string, cause?: unknown): SandboxError {
  const more = cause instanceof Error ? `: ${cause.message}` : "";
  return new SandboxError(
    "FailedPrecondition",
    `cannot use the cache directory "${path}": ${reason}${more}`,
    cause === undefined ? {} : { cause },
  );
}
