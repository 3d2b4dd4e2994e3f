/**
 * Linux system calls as WASI needs them, made through the guest library on the calling thread. A
 * call that waits is repeated when a signal interrupted it, unless the guest is to end.
 *
 * @module
 */

import { ERRNO } from "../../native/errno.ts";
import { openLibrary } from "../../native/library.ts";
import { cString } from "../../native/system.ts";
import { WASI_ERRNO, WasiError } from "./abi.ts";

/** The system calls whose numbers are known here. */
type CallName = keyof typeof X86_64;

const X86_64 = {
  read: 0n,
  write: 1n,
  close: 3n,
  lseek: 8n,
  ioctl: 16n,
  pread64: 17n,
  pwrite64: 18n,
  schedYield: 24n,
  fcntl: 72n,
  fsync: 74n,
  fdatasync: 75n,
  ftruncate: 77n,
  prctl: 157n,
  gettid: 186n,
  getdents64: 217n,
  fadvise64: 221n,
  clockGettime: 228n,
  clockGetres: 229n,
  mkdirat: 258n,
  unlinkat: 263n,
  symlinkat: 266n,
  readlinkat: 267n,
  linkat: 265n,
  ppoll: 271n,
  utimensat: 280n,
  fallocate: 285n,
  renameat2: 316n,
  getrandom: 318n,
  statx: 332n,
  openat2: 437n,
} as const;

const AARCH64: Readonly<Record<CallName, bigint>> = {
  fcntl: 25n,
  ioctl: 29n,
  mkdirat: 34n,
  unlinkat: 35n,
  symlinkat: 36n,
  linkat: 37n,
  ftruncate: 46n,
  fallocate: 47n,
  close: 57n,
  getdents64: 61n,
  lseek: 62n,
  read: 63n,
  write: 64n,
  pread64: 67n,
  pwrite64: 68n,
  ppoll: 73n,
  readlinkat: 78n,
  fsync: 82n,
  fdatasync: 83n,
  utimensat: 88n,
  clockGettime: 113n,
  clockGetres: 114n,
  schedYield: 124n,
  prctl: 167n,
  gettid: 178n,
  fadvise64: 223n,
  renameat2: 276n,
  getrandom: 278n,
  statx: 291n,
  openat2: 437n,
};

const NUMBER: Readonly<Record<CallName, bigint>> = Deno.build.arch === "aarch64" ? AARCH64 : X86_64;

/** Flags of open(2) that WASI needs; those that differ between the machines come first. */
export const O = {
  DIRECTORY: Deno.build.arch === "aarch64" ? 0o40000 : 0o200000,
  NOFOLLOW: Deno.build.arch === "aarch64" ? 0o100000 : 0o400000,
  RDONLY: 0,
  WRONLY: 0o1,
  RDWR: 0o2,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DSYNC: 0o10000,
  CLOEXEC: 0o2000000,
  SYNC: 0o4010000,
  PATH: 0o10000000,
} as const;

const RESOLVE_NO_MAGICLINKS = 0x02n;
const RESOLVE_BENEATH = 0x08n;
const AT_EMPTY_PATH = 0x1000n;
const AT_REMOVEDIR = 0x200;
/** STATX_BASIC_STATS. */
const STATX_WANTED = 0x7ffn;
const F_GETFL = 3n;
const F_SETFL = 4n;
const FIONREAD = 0x541bn;
/** Permissions of files and directories that a guest makes; the umask takes from them. */
const NEW_FILE_MODE = 0o666n;
const NEW_DIRECTORY_MODE = 0o777n;

/** How often a path is resolved again that is being changed. */
const RESOLVE_ATTEMPTS_MAX = 16;

const EMPTY = cString("");

type Argument = "i64" | "buffer";

function pattern<
  A extends Argument,
  B extends Argument,
  C extends Argument,
  D extends Argument,
  E extends Argument,
>(a: A, b: B, c: C, d: D, e: E) {
  return {
    name: "quasaur_syscall",
    parameters: ["i64", a, b, c, d, e, "i64"],
    result: "i64",
  } as const;
}

/** quasaur_syscall under one name for each pattern of arguments: `i` an integer, `b` a buffer. */
const SYMBOLS = {
  iiiii: pattern("i64", "i64", "i64", "i64", "i64"),
  biiii: pattern("buffer", "i64", "i64", "i64", "i64"),
  bibii: pattern("buffer", "i64", "buffer", "i64", "i64"),
  bibib: pattern("buffer", "i64", "buffer", "i64", "buffer"),
  ibiii: pattern("i64", "buffer", "i64", "i64", "i64"),
  ibbii: pattern("i64", "buffer", "buffer", "i64", "i64"),
  ibibi: pattern("i64", "buffer", "i64", "buffer", "i64"),
  ibiib: pattern("i64", "buffer", "i64", "i64", "buffer"),
  iibii: pattern("i64", "i64", "buffer", "i64", "i64"),
} as const;

/** Bytes of a guest's memory or of a scratch buffer. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** What statx(2) tells of a file. */
export interface FileStat {
  /** Mode with the type bits. */
  readonly mode: number;
  /** Device. */
  readonly device: bigint;
  /** Number on the device. */
  readonly inode: bigint;
  /** Hard links. */
  readonly links: bigint;
  /** Size in bytes. */
  readonly sizeBytes: bigint;
  /** Last access, nanoseconds since the epoch. */
  readonly accessedNs: bigint;
  /** Last change of the content, nanoseconds since the epoch. */
  readonly modifiedNs: bigint;
  /** Last change of the inode, nanoseconds since the epoch. */
  readonly changedNs: bigint;
}

/** Makes system calls on the calling thread. A failed one throws a {@link WasiError}. */
export class Calls {
  readonly #c: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  readonly #onInterrupt: () => void;

  /**
   * Binds the functions.
   *
   * @param libraryPath See {@link openLibrary}.
   * @param onInterrupt Called when a signal ended a wait; throws where the guest is to end.
   */
  constructor(libraryPath: string, onInterrupt: () => void) {
    this.#c = openLibrary(libraryPath, SYMBOLS);
    this.#onInterrupt = onInterrupt;
  }

  /** Reads into `bytes`; 0 at the end. */
  read(fd: number, bytes: Bytes): number {
    const length = BigInt(bytes.length);
    // SAFETY: here and in the calls below, a buffer is as long as the kernel is told, and it is used
    // during the call only; paths end with a NUL.
    return this.#waiting(() => this.#c.ibiii(NUMBER.read, BigInt(fd), bytes, length, 0n, 0n, 0n));
  }

  /** Writes some of `bytes`. */
  write(fd: number, bytes: Bytes): number {
    const length = BigInt(bytes.length);
    return this.#waiting(() => this.#c.ibiii(NUMBER.write, BigInt(fd), bytes, length, 0n, 0n, 0n));
  }

  /** Reads at an offset. */
  readAt(fd: number, bytes: Bytes, offset: bigint): number {
    const length = BigInt(bytes.length);
    return this.#waiting(() =>
      this.#c.ibiii(NUMBER.pread64, BigInt(fd), bytes, length, offset, 0n, 0n)
    );
  }

  /** Writes at an offset. */
  writeAt(fd: number, bytes: Bytes, offset: bigint): number {
    const length = BigInt(bytes.length);
    return this.#waiting(() =>
      this.#c.ibiii(NUMBER.pwrite64, BigInt(fd), bytes, length, offset, 0n, 0n)
    );
  }

  /** Closes; Linux always frees the number. */
  close(fd: number): void {
    this.#c.iiiii(NUMBER.close, BigInt(fd), 0n, 0n, 0n, 0n, 0n);
  }

  /** Moves a file's offset; the new one. */
  seek(fd: number, offset: bigint, whence: number): bigint {
    return checked(this.#integers("lseek", fd, offset, BigInt(whence)));
  }

  /** Waits until everything that was written is on the disk. */
  sync(fd: number, dataOnly: boolean): void {
    const name = dataOnly ? "fdatasync" : "fsync";
    this.#waiting(() => this.#integers(name, fd));
  }

  /** Cuts a file or makes it longer. */
  truncate(fd: number, lengthBytes: bigint): void {
    this.#waiting(() => this.#integers("ftruncate", fd, lengthBytes));
  }

  /** Makes room for a file on the disk. */
  allocate(fd: number, offset: bigint, lengthBytes: bigint): void {
    this.#waiting(() => this.#integers("fallocate", fd, 0n, offset, lengthBytes));
  }

  /** Tells how a file will be read (posix_fadvise(2)). */
  advise(fd: number, offset: bigint, lengthBytes: bigint, advice: number): void {
    checked(this.#integers("fadvise64", fd, offset, lengthBytes, BigInt(advice)));
  }

  /** The flags that a descriptor was opened with. */
  flags(fd: number): number {
    return Number(checked(this.#integers("fcntl", fd, F_GETFL)));
  }

  /** Changes the flags that may be changed. */
  setFlags(fd: number, flags: number): void {
    checked(this.#integers("fcntl", fd, F_SETFL, BigInt(flags)));
  }

  /** How many bytes can be read at once; 0 where nobody knows. */
  readable(fd: number): bigint {
    const count = new Int32Array(1);
    const bytes = new Uint8Array(count.buffer);
    const failed = this.#c.iibii(NUMBER.ioctl, BigInt(fd), FIONREAD, bytes, 0n, 0n, 0n) < 0n;
    return failed ? 0n : BigInt(count[0] ?? 0);
  }

  /** What is known of an open descriptor. */
  stat(fd: number): FileStat {
    const bytes = new Uint8Array(256);
    const result = this.#c.ibiib(
      NUMBER.statx,
      BigInt(fd),
      EMPTY,
      AT_EMPTY_PATH,
      STATX_WANTED,
      bytes,
      0n,
    );
    checked(result);
    return decodeStat(new DataView(bytes.buffer));
  }

  /**
   * Sets the times of an open descriptor.
   *
   * @param times Two `struct timespec`; see utimensat(2) for UTIME_NOW and UTIME_OMIT.
   */
  setTimes(fd: number, times: Bytes): void {
    const result = this.#c.ibbii(
      NUMBER.utimensat,
      BigInt(fd),
      EMPTY,
      times,
      AT_EMPTY_PATH,
      0n,
      0n,
    );
    checked(result);
  }

  /**
   * Opens a path that does not lead out of a directory, close-on-exec.
   *
   * @param directory A descriptor.
   * @param path NUL-terminated; relative. Links, `..` and mounts inside of the directory are fine.
   * @throws {WasiError} NOTCAPABLE where it leads out.
   */
  openBeneath(directory: number, path: Bytes, flags: number): number {
    const mode = (flags & O.CREAT) === 0 ? 0n : NEW_FILE_MODE;
    const resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    // The kernel refuses every other flag beside O_PATH.
    const more = (flags & O.PATH) === 0 ? O.CLOEXEC | O.NOCTTY : O.CLOEXEC;
    const how = new BigUint64Array([BigInt(flags | more), mode, resolve]);
    const bytes = new Uint8Array(how.buffer);
    for (let attempt = 1;; attempt++) {
      const result = this.#c.ibbii(NUMBER.openat2, BigInt(directory), path, bytes, 24n, 0n, 0n);
      if (result === -BigInt(ERRNO.EINTR)) this.#onInterrupt();
      else if (result === -BigInt(ERRNO.EXDEV)) throw new WasiError(WASI_ERRNO.NOTCAPABLE);
      // Somebody renamed something on the way: the kernel could not tell whether it led out.
      else if (result !== -BigInt(ERRNO.EAGAIN) || attempt >= RESOLVE_ATTEMPTS_MAX) {
        return Number(checked(result));
      }
    }
  }

  /** Fills `bytes` with entries of a directory (getdents64(2)); how many bytes, 0 at the end. */
  entries(fd: number, bytes: Bytes): number {
    const length = BigInt(bytes.length);
    return Number(
      checked(this.#c.ibiii(NUMBER.getdents64, BigInt(fd), bytes, length, 0n, 0n, 0n)),
    );
  }

  /** Makes a directory. `name` is one component, NUL-terminated, here and below. */
  makeDirectory(directory: number, name: Bytes): void {
    const fd = BigInt(directory);
    checked(this.#c.ibiii(NUMBER.mkdirat, fd, name, NEW_DIRECTORY_MODE, 0n, 0n, 0n));
  }

  /** Removes a file or link, or an empty directory. */
  unlink(directory: number, name: Bytes, isDirectory: boolean): void {
    const flags = isDirectory ? BigInt(AT_REMOVEDIR) : 0n;
    checked(this.#c.ibiii(NUMBER.unlinkat, BigInt(directory), name, flags, 0n, 0n, 0n));
  }

  /** Makes a symbolic link. */
  symlink(target: Bytes, directory: number, name: Bytes): void {
    checked(this.#c.bibii(NUMBER.symlinkat, target, BigInt(directory), name, 0n, 0n, 0n));
  }

  /** Reads a symbolic link into `bytes`; how many. */
  readLink(directory: number, name: Bytes, bytes: Bytes): number {
    const length = BigInt(bytes.length);
    return Number(checked(
      this.#c.ibbii(NUMBER.readlinkat, BigInt(directory), name, bytes, length, 0n, 0n),
    ));
  }

  /** Makes a hard link; a symbolic link at the end is linked itself. */
  link(fromDirectory: number, from: Bytes, toDirectory: number, to: Bytes): void {
    checked(this.#c.ibibi(
      NUMBER.linkat,
      BigInt(fromDirectory),
      from,
      BigInt(toDirectory),
      to,
      0n,
      0n,
    ));
  }

  /** Renames. */
  rename(fromDirectory: number, from: Bytes, toDirectory: number, to: Bytes): void {
    checked(this.#c.ibibi(
      NUMBER.renameat2,
      BigInt(fromDirectory),
      from,
      BigInt(toDirectory),
      to,
      0n,
      0n,
    ));
  }

  /**
   * Waits for descriptors, once: a signal ends the wait too.
   *
   * @param polls An array of `struct pollfd`; the answers are written into it.
   * @param timeoutNs Longest wait; undefined for none.
   * @returns How many are ready.
   */
  poll(polls: Bytes, timeoutNs: bigint | undefined): number {
    const timeout = timeoutNs === undefined ? null : timespec(timeoutNs);
    const count = BigInt(polls.length / 8);
    const result = this.#c.bibii(NUMBER.ppoll, polls, count, timeout, 0n, 0n, 0n);
    if (result === -BigInt(ERRNO.EINTR)) {
      this.#onInterrupt();
      return 0;
    }
    return Number(checked(result));
  }

  /** The time of a clock (clock_gettime(2)) in nanoseconds. */
  now(clock: number): bigint {
    return this.#clock("clockGettime", clock);
  }

  /** The resolution of a clock in nanoseconds. */
  resolution(clock: number): bigint {
    return this.#clock("clockGetres", clock);
  }

  /** Fills `bytes` with random ones. */
  random(bytes: Bytes): void {
    for (let at = 0; at < bytes.length;) {
      const rest = bytes.subarray(at);
      const length = BigInt(rest.length);
      at += this.#waiting(() => this.#c.biiii(NUMBER.getrandom, rest, length, 0n, 0n, 0n, 0n));
    }
  }

  /** Lets others run. */
  yield(): void {
    this.#integers("schedYield", 0);
  }

  /** The id of this thread. */
  threadId(): number {
    return Number(this.#integers("gettid", 0));
  }

  #clock(name: "clockGettime" | "clockGetres", clock: number): bigint {
    const time = new BigInt64Array(2);
    const bytes = new Uint8Array(time.buffer);
    checked(this.#c.ibiii(NUMBER[name], BigInt(clock), bytes, 0n, 0n, 0n, 0n));
    return (time[0] ?? 0n) * 1_000_000_000n + (time[1] ?? 0n);
  }

  #integers(name: CallName, fd: number, a = 0n, b = 0n, c = 0n): bigint {
    return this.#c.iiiii(NUMBER[name], BigInt(fd), a, b, c, 0n, 0n);
  }

  /** Makes a call again that a signal interrupted. */
  #waiting(call: () => bigint): number {
    for (;;) {
      const result = call();
      if (result !== -BigInt(ERRNO.EINTR)) return Number(checked(result));
      this.#onInterrupt();
    }
  }
}

function checked(result: bigint): bigint {
  if (result < 0n) throw WasiError.ofLinux(Number(-result));
  return result;
}

/** A `struct timespec`. */
export function timespec(ns: bigint): Bytes {
  const time = new BigInt64Array([ns / 1_000_000_000n, ns % 1_000_000_000n]);
  return new Uint8Array(time.buffer);
}

/** Decodes a `struct statx`. */
function decodeStat(view: DataView): FileStat {
  const time = (at: number): bigint =>
    view.getBigInt64(at, true) * 1_000_000_000n + BigInt(view.getUint32(at + 8, true));
  return {
    mode: view.getUint16(28, true),
    device: (BigInt(view.getUint32(136, true)) << 32n) | BigInt(view.getUint32(140, true)),
    inode: view.getBigUint64(32, true),
    links: BigInt(view.getUint32(16, true)),
    sizeBytes: view.getBigUint64(40, true),
    accessedNs: time(64),
    modifiedNs: time(112),
    changedNs: time(96),
  };
}
