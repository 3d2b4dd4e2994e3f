/**
 * The files of cgroup file systems: the few things that are done with them, and the system calls that
 * do them. The sandboxer's permissions name no path below /proc or /sys, so this goes through the
 * guest library.
 *
 * @module
 */

import { ERRNO } from "../native/errno.ts";
import { holding } from "../native/hold.ts";
import { openLibrary } from "../native/library.ts";
import { AT_FDCWD, OPEN, SYSCALL } from "../native/syscalls.ts";
import { cString, type System } from "../native/system.ts";

/** What is done with cgroup files. What fails says so by a positive error number; 0 is success. */
export interface CgroupFiles {
  /** The text of a file; undefined where it cannot be read. */
  read(path: string): string | undefined;
  /** Writes a text by one write(2). */
  write(path: string, text: string): number;
  /** The same on another thread: for what the kernel may wait with, such as moving a thread. */
  writeLater(path: string, text: string): Promise<number>;
  /** Makes a directory. */
  makeDirectory(path: string): number;
  /** Removes a directory; a cgroup's files go with it. */
  removeDirectory(path: string): number;
  /** The names of the directories in a directory; none where it is not there. */
  directories(path: string): readonly string[];
  /** Opens a file for writing. Returns a descriptor, or a negative error number. */
  open(path: string): number;
  /** Closes a descriptor of {@link CgroupFiles.open}. */
  close(fd: number): void;
}

const name = "quasaur_syscall";
const result = "i64";
const I = "i64";
const B = "buffer";

const FILE_SYMBOLS = {
  mkdirat: { name, parameters: [I, I, B, I, I, I, I], result },
  unlinkat: { name, parameters: [I, I, B, I, I, I, I], result },
  transfer: { name, parameters: [I, I, B, I, I, I, I], result },
  writeAsync: { name, parameters: [I, I, B, I, I, I, I], result, nonblocking: true },
} as const;

const AT_REMOVEDIR = 0x200n;
const DIRECTORY_MODE = 0o755n;
/** Most bytes that are read of one file: a mount table is the longest of them. */
const FILE_BYTES_MAX = 8_388_608;
const READ_BYTES = 65_536;
/** Shortest buffer that is handed to another thread: see {@link holding}. */
const BUFFER_BYTES_MIN = 128;
/** Most reads of one directory, each of some hundred names. */
const DIRECTORY_READS_MAX = 1_024;
/** getdents64(2): a directory; where its parts are in `struct linux_dirent64`. */
const DT_DIR = 4;
const DIRENT_LENGTH_AT = 16;
const DIRENT_TYPE_AT = 18;
const DIRENT_NAME_AT = 19;

/** Cgroup files by system calls. */
export class SystemCgroupFiles implements CgroupFiles {
  readonly #c: Deno.DynamicLibrary<typeof FILE_SYMBOLS>["symbols"];
  readonly #system: System;

  /**
   * Binds the functions.
   *
   * @param system Opens and closes.
   * @param libraryPath See {@link openLibrary}.
   */
  constructor(system: System, libraryPath: string) {
    this.#system = system;
    this.#c = openLibrary(libraryPath, FILE_SYMBOLS);
  }

  /** See {@link CgroupFiles.read}; at most 8 MiB. */
  read(path: string): string | undefined {
    using file = this.#open(path, OPEN.readOnly);
    if (file.fd < 0) return undefined;
    const decoder = new TextDecoder();
    const bytes = new Uint8Array(READ_BYTES);
    let text = "";
    for (let i = 0; i < FILE_BYTES_MAX / READ_BYTES; i++) {
      const got = this.#transfer(SYSCALL.read, file.fd, bytes);
      if (got < 0) return undefined;
      if (got === 0) break;
      text += decoder.decode(bytes.subarray(0, got), { stream: true });
    }
    return text + decoder.decode();
  }

  /** See {@link CgroupFiles.write}. */
  write(path: string, text: string): number {
    using file = this.#open(path, OPEN.writeOnly);
    if (file.fd < 0) return -file.fd;
    return Math.max(0, -this.#transfer(SYSCALL.write, file.fd, new TextEncoder().encode(text)));
  }

  /** See {@link CgroupFiles.writeLater}. */
  async writeLater(path: string, text: string): Promise<number> {
    using file = this.#open(path, OPEN.writeOnly);
    const { fd } = file;
    if (fd < 0) return -fd;
    const encoded = new TextEncoder().encode(text);
    const bytes = new Uint8Array(Math.max(encoded.length, BUFFER_BYTES_MIN));
    bytes.set(encoded);
    const length = BigInt(encoded.length);
    // SAFETY: the buffer is longer than what is written, and held until the call is over; the
    // descriptor is closed after it.
    const written = await holding(
      [bytes],
      () => this.#c.writeAsync(SYSCALL.write, BigInt(fd), bytes, length, 0n, 0n, 0n),
    );
    return Math.max(0, -Number(written));
  }

  /** See {@link CgroupFiles.makeDirectory}. */
  makeDirectory(path: string): number {
    // SAFETY: the path is NUL-terminated and only read.
    return -Number(
      this.#c.mkdirat(
        SYSCALL.mkdirat,
        BigInt(AT_FDCWD),
        cString(path),
        DIRECTORY_MODE,
        0n,
        0n,
        0n,
      ),
    );
  }

  /** See {@link CgroupFiles.removeDirectory}. */
  removeDirectory(path: string): number {
    // SAFETY: the path is NUL-terminated and only read.
    return -Number(
      this.#c.unlinkat(SYSCALL.unlinkat, BigInt(AT_FDCWD), cString(path), AT_REMOVEDIR, 0n, 0n, 0n),
    );
  }

  /** See {@link CgroupFiles.directories}. */
  directories(path: string): readonly string[] {
    using file = this.#open(path, OPEN.readOnly | OPEN.directory);
    if (file.fd < 0) return [];
    const bytes = new Uint8Array(READ_BYTES);
    const names: string[] = [];
    for (let i = 0; i < DIRECTORY_READS_MAX; i++) {
      const got = this.#transfer(SYSCALL.getdents64, file.fd, bytes);
      if (got <= 0) break;
      names.push(...directoryNames(bytes.subarray(0, got)));
    }
    return names;
  }

  /** See {@link CgroupFiles.open}. */
  open(path: string): number {
    return this.#system.openAt(AT_FDCWD, path, OPEN.writeOnly, 0);
  }

  /** See {@link CgroupFiles.close}. */
  close(fd: number): void {
    this.#system.close(fd);
  }

  #open(path: string, flags: number): Disposable & { readonly fd: number } {
    const fd = this.#system.openAt(AT_FDCWD, path, flags, 0);
    return { fd, [Symbol.dispose]: () => void (fd >= 0 && this.#system.close(fd)) };
  }

  /** read(2), write(2) or getdents64(2) with a whole buffer. */
  #transfer(call: bigint, fd: number, bytes: Uint8Array<ArrayBuffer>): number {
    for (;;) {
      // SAFETY: the buffer has the length given.
      const done = Number(
        this.#c.transfer(call, BigInt(fd), bytes, BigInt(bytes.length), 0n, 0n, 0n),
      );
      if (done !== -ERRNO.EINTR) return done;
    }
  }
}

/** The directories in what getdents64(2) gave, but for `.` and `..`. */
function directoryNames(bytes: Uint8Array<ArrayBuffer>): string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const names: string[] = [];
  for (let at = 0; at + DIRENT_NAME_AT < bytes.length;) {
    const length = view.getUint16(at + DIRENT_LENGTH_AT, true);
    if (length === 0) break;
    if (view.getUint8(at + DIRENT_TYPE_AT) === DT_DIR) {
      const field = bytes.subarray(at + DIRENT_NAME_AT, at + length);
      const text = new TextDecoder().decode(field.subarray(0, field.indexOf(0)));
      if (text !== "." && text !== "..") names.push(text);
    }
    at += length;
  }
  return names;
}
