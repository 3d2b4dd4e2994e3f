/**
 * The system calls of the wasm sandboxer, typed: descriptors, files, FIFOs, namespaces. Failures
 * are negative error numbers in C and {@link SandboxError}s here. Nothing here blocks the event
 * loop: a call that may wait for a disk has an asynchronous form that runs on another thread.
 *
 * @module
 */

import { ERRNO, systemError } from "./errno.ts";
import { holding } from "./hold.ts";
import { openLibrary } from "./library.ts";
import { AT_FDCWD, OPEN, SYSCALL } from "./syscalls.ts";

/**
 * quasaur_syscall(number, a..f) under one name for each pattern of arguments: `i` an integer, `b` a
 * buffer (null is NULL).
 */
/** setpriority(2): the number that follows is a process, or on Linux a thread. */
const PRIO_PROCESS = 0;
/** madvise(2): drop the pages. */
const MADV_DONTNEED = 4;
const SYSTEM_SYMBOLS = {
  iiiiii: pattern("i64", "i64", "i64", "i64", "i64", "i64"),
  biiiii: pattern("buffer", "i64", "i64", "i64", "i64", "i64"),
  bbiiii: pattern("buffer", "buffer", "i64", "i64", "i64", "i64"),
  bibiii: pattern("buffer", "i64", "buffer", "i64", "i64", "i64"),
  ibiiii: pattern("i64", "buffer", "i64", "i64", "i64", "i64"),
  ibbiii: pattern("i64", "buffer", "buffer", "i64", "i64", "i64"),
  ibiibi: pattern("i64", "buffer", "i64", "i64", "buffer", "i64"),
  iibbii: pattern("i64", "i64", "buffer", "buffer", "i64", "i64"),
  ibiiiiAsync: { ...pattern("i64", "buffer", "i64", "i64", "i64", "i64"), nonblocking: true },
} as const;

type Argument = "i64" | "buffer";

function pattern<
  A extends Argument,
  B extends Argument,
  C extends Argument,
  D extends Argument,
  E extends Argument,
  F extends Argument,
>(a: A, b: B, c: C, d: D, e: E, f: F) {
  return { name: "quasaur_syscall", parameters: ["i64", a, b, c, d, e, f], result: "i64" } as const;
}

/** Files larger than this are read on another thread. */
const READ_INLINE_BYTES_MAX = 262_144;
/** Most bytes that one read(2) asks for. */
const READ_CHUNK_BYTES = 8_388_608;

const F_GETFD = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const POLLIN = 1;
const POLLOUT = 4;
const AT_EMPTY_PATH = 0x1000n;
const AT_SYMLINK_NOFOLLOW = 0x100n;
const STATX_ATTR_MOUNT_ROOT = 0x2000n;
const MFD_CLOEXEC = 1n;
/** STATX_TYPE and STATX_SIZE. */
const STATX_WANTED = 0x201n;
const STATX_MTIME = 0x40n;
/** STATX_INO, STATX_SIZE, STATX_MTIME, STATX_CTIME and STATX_MNT_ID. */
const STATX_IDENTITY = 0x13c0n;
const S_IFMT = 0o170000;
const S_IFIFO = 0o010000;
const RLIMIT_NOFILE = 7n;
/** linux/capability.h: 64 capabilities in two structures. */
const CAPABILITY_VERSION_3 = 0x20080522;
/** ioctl_ns(2): the kind of a namespace, as a CLONE_NEW* flag. */
const NS_GET_NSTYPE = 0xb703;

const FILE_KINDS: Readonly<Record<number, FileKind>> = {
  0o010000: "fifo",
  0o020000: "character",
  0o040000: "directory",
  0o100000: "file",
  0o140000: "socket",
};

/** What a descriptor refers to. */
export type FileKind = "fifo" | "character" | "directory" | "file" | "socket" | "other";

/** A file's kind and size. */
export interface FileStatus {
  /** What it is. */
  readonly kind: FileKind;
  /** Size in bytes; 0 for what has none. */
  readonly sizeBytes: number;
}

/** Which file of a file system something is, and which content it has. */
export interface FileIdentity {
  /** The same for the same content of the same file. */
  readonly key: string;
  /** When the file was changed last, in milliseconds since 1970. The kernel sets it. */
  readonly changedAtMs: number;
  /** The mount that it was opened in. */
  readonly mountId: bigint;
}

const encoder = new TextEncoder();

/** A NUL-terminated copy of a text. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(`${text}\0`);
}

/** Makes system calls through the guest library. */
export class System {
  readonly #c: Deno.DynamicLibrary<typeof SYSTEM_SYMBOLS>["symbols"];

  /**
   * Binds the functions.
   *
   * @param libraryPath See {@link openLibrary}.
   */
  constructor(readonly libraryPath: string) {
    this.#c = openLibrary(libraryPath, SYSTEM_SYMBOLS);
  }

  /**
   * Opens a path below a directory by openat2(2), close-on-exec.
   *
   * @param directory A descriptor, or {@link AT_FDCWD}.
   * @param path Absolute or relative to the directory.
   * @param flags {@link OPEN} flags.
   * @param resolve RESOLVE_* flags; 0 for none.
   * @param mode Permissions of a file that `OPEN.create` makes.
   * @returns The descriptor, or a negative error number.
   */
  openAt(directory: number, path: string, flags: number, resolve: number, mode = 0): number {
    const how = new BigUint64Array([
      BigInt(flags | OPEN.closeOnExec),
      BigInt(mode),
      BigInt(resolve),
    ]);
    const bytes = new Uint8Array(how.buffer);
    // SAFETY: path is NUL-terminated, how is a struct open_how of the length given; both are only
    // read during the call.
    return Number(
      this.#c.ibbiii(SYSCALL.openat2, BigInt(directory), cString(path), bytes, 24n, 0n, 0n),
    );
  }

  /**
   * Makes a directory in a directory by mkdirat(2).
   *
   * @param directory A descriptor.
   * @param name One name: links in a longer path would be followed.
   * @param mode Permissions; the umask takes away from them.
   * @returns 0, or a negative error number.
   */
  makeDirectoryAt(directory: number, name: string, mode: number): number {
    // SAFETY: name is NUL-terminated and only read during the call.
    return Number(
      this.#c.ibiiii(SYSCALL.mkdirat, BigInt(directory), cString(name), BigInt(mode), 0n, 0n, 0n),
    );
  }

  /**
   * Makes a FIFO by mknodat(2).
   *
   * @param path Of the host, absolute; nothing is there yet.
   * @param mode Permissions; the umask takes away from them.
   * @returns 0, or a negative error number.
   */
  makeFifo(path: string, mode: number): number {
    const [directory, kind] = [BigInt(AT_FDCWD), BigInt(S_IFIFO | mode)];
    // SAFETY: path is NUL-terminated and only read during the call.
    return Number(this.#c.ibiiii(SYSCALL.mknodat, directory, cString(path), kind, 0n, 0n, 0n));
  }

  /**
   * The effective capabilities of the calling thread, that is of the one that runs this JavaScript.
   *
   * @returns Bit n is set for capability n of capabilities(7).
   */
  effectiveCapabilities(): bigint {
    const header = new Uint8Array(new Uint32Array([CAPABILITY_VERSION_3, 0]).buffer);
    const sets = new Uint32Array(6);
    const bytes = new Uint8Array(sets.buffer);
    // SAFETY: struct __user_cap_header_struct, and two struct __user_cap_data_struct to write to.
    const result = Number(
      this.#c.bbiiii(SYSCALL.capget, header, bytes, 0n, 0n, 0n, 0n),
    );
    if (result < 0) throw systemError("cannot read the capabilities of the process", -result);
    return BigInt(sets[0] ?? 0) | (BigInt(sets[3] ?? 0) << 32n);
  }

  /**
   * Opens an absolute path of the host, close-on-exec.
   *
   * @param flags {@link OPEN} flags.
   * @param what What the path is, for the message, such as `stdout`.
   * @throws {SandboxError} With the code that fits the error number.
   */
  open(path: string, flags: number, what: string): number {
    const fd = this.openAt(AT_FDCWD, path, flags, 0);
    if (fd < 0) throw systemError(`cannot open ${what} "${path}"`, -fd);
    return fd;
  }

  /** Closes a descriptor. Linux always frees the number, so there is nothing to fail. */
  close(fd: number): void {
    this.#integers(SYSCALL.close, fd, 0, 0);
  }

  /** Whether a number is an open descriptor. */
  isOpen(fd: number): boolean {
    return this.#integers(SYSCALL.fcntl, fd, F_GETFD, 0) >= 0;
  }

  /** Whether a descriptor is in non-blocking mode. */
  isNonblocking(fd: number): boolean {
    const flags = this.#integers(SYSCALL.fcntl, fd, F_GETFL, 0);
    return flags >= 0 && (flags & OPEN.nonblocking) !== 0;
  }

  /** Switches non-blocking mode of what a descriptor refers to. */
  setNonblocking(fd: number, on: boolean): void {
    const flags = this.#integers(SYSCALL.fcntl, fd, F_GETFL, 0);
    const wanted = on ? flags | OPEN.nonblocking : flags & ~OPEN.nonblocking;
    const result = flags < 0 ? flags : this.#integers(SYSCALL.fcntl, fd, F_SETFL, wanted);
    if (result < 0) throw systemError(`cannot change the mode of descriptor ${fd}`, -result);
  }

  /**
   * Makes a pipe, close-on-exec, both ends blocking.
   *
   * @returns `[read end, write end]`.
   */
  pipe(): readonly [number, number] {
    const ends = new Int32Array(2);
    const bytes = new Uint8Array(ends.buffer);
    // SAFETY: pipe2 writes two 32-bit integers.
    const result = Number(
      this.#c.biiiii(SYSCALL.pipe2, bytes, BigInt(OPEN.closeOnExec), 0n, 0n, 0n, 0n),
    );
    if (result < 0) throw systemError("cannot make a pipe", -result);
    return [ends[0] ?? -1, ends[1] ?? -1];
  }

  /**
   * Makes an empty file in memory, close-on-exec.
   *
   * @param name For people who look at the process.
   */
  memoryFile(name: string): number {
    // SAFETY: name is NUL-terminated and only read during the call.
    const fd = Number(
      this.#c.biiiii(SYSCALL.memfdCreate, cString(name), MFD_CLOEXEC, 0n, 0n, 0n, 0n),
    );
    if (fd < 0) throw systemError("cannot make a file in memory", -fd);
    return fd;
  }

  /** The kind and size of what a descriptor refers to. */
  status(fd: number): FileStatus {
    const bytes = new Uint8Array(256);
    // SAFETY: struct statx is 256 bytes; the path is the empty C string.
    const result = Number(
      this.#c.ibiibi(
        SYSCALL.statx,
        BigInt(fd),
        cString(""),
        AT_EMPTY_PATH,
        STATX_WANTED,
        bytes,
        0n,
      ),
    );
    if (result < 0) throw systemError(`cannot stat descriptor ${fd}`, -result);
    const view = new DataView(bytes.buffer);
    const mode = view.getUint16(28, true);
    return {
      kind: FILE_KINDS[mode & S_IFMT] ?? "other",
      sizeBytes: Number(view.getBigUint64(40, true)),
    };
  }

  /**
   * What tells a file and its content from all others of a file system, as far as the kernel knows.
   *
   * @returns Undefined where the file system does not say.
   */
  identity(fd: number): FileIdentity | undefined {
    const bytes = new Uint8Array(256);
    const wanted = STATX_IDENTITY;
    // SAFETY: struct statx is 256 bytes; the path is the empty C string.
    const result = this.#c.ibiibi(
      SYSCALL.statx,
      BigInt(fd),
      cString(""),
      AT_EMPTY_PATH,
      wanted,
      bytes,
      0n,
    );
    const view = new DataView(bytes.buffer);
    const got = BigInt(view.getUint32(0, true));
    if (result < 0n || (got & wanted) !== wanted) return undefined;
    const [inode, sizeBytes] = [view.getBigUint64(32, true), view.getBigUint64(40, true)];
    const [changedS, changedNs] = [view.getBigInt64(96, true), view.getUint32(104, true)];
    const [modifiedS, modifiedNs] = [view.getBigInt64(112, true), view.getUint32(120, true)];
    return {
      key: `${inode} ${sizeBytes} ${modifiedS}.${modifiedNs} ${changedS}.${changedNs}`,
      changedAtMs: Number(changedS) * 1_000 + changedNs / 1e6,
      mountId: view.getBigUint64(144, true),
    };
  }

  /**
   * When a file was changed last.
   *
   * @param path Its path; a symbolic link is followed.
   * @returns In milliseconds since 1970; undefined where there is no such file.
   */
  modifiedAtMs(path: string): number | undefined {
    const bytes = new Uint8Array(256);
    // SAFETY: struct statx is 256 bytes; the path is a C string.
    const result = this.#c.ibiibi(
      SYSCALL.statx,
      BigInt(AT_FDCWD),
      cString(path),
      0n,
      STATX_MTIME,
      bytes,
      0n,
    );
    if (result < 0n) return undefined;
    const view = new DataView(bytes.buffer);
    return Number(view.getBigInt64(112, true)) * 1_000 + view.getUint32(120, true) / 1e6;
  }

  /**
   * Whether a path is where a mount begins.
   *
   * @param path Of the host, absolute; a link at its end is not followed.
   * @returns False where nothing is there; true where the kernel does not tell (before Linux 5.8).
   */
  isMountRoot(path: string): boolean {
    const bytes = new Uint8Array(256);
    // SAFETY: struct statx is 256 bytes; the path is NUL-terminated.
    const result = this.#c.ibiibi(
      SYSCALL.statx,
      BigInt(AT_FDCWD),
      cString(path),
      AT_SYMLINK_NOFOLLOW,
      0n,
      bytes,
      0n,
    );
    if (result < 0n) return false;
    const view = new DataView(bytes.buffer);
    const [attributes, known] = [view.getBigUint64(8, true), view.getBigUint64(56, true)];
    return (known & STATX_ATTR_MOUNT_ROOT) === 0n || (attributes & STATX_ATTR_MOUNT_ROOT) !== 0n;
  }

  /**
   * Writes without waiting.
   *
   * @param bytes At most 4096, so that a FIFO that is ready takes them whole.
   * @returns `false` when the reader is not ready to take them yet; `true` when they are written,
   *   or can never be because the reader is gone.
   */
  tryWrite(fd: number, bytes: Uint8Array<ArrayBuffer>): boolean {
    const events = this.#poll(fd, POLLOUT);
    if (events === 0) return false;
    if ((events & POLLOUT) === 0) return true;
    // SAFETY: the buffer is only read during the call.
    const length = BigInt(bytes.length);
    const written = this.#c.ibiiii(SYSCALL.write, BigInt(fd), bytes, length, 0n, 0n, 0n);
    return Number(written) !== -ERRNO.EAGAIN;
  }

  /**
   * Whether there is something to read at once.
   *
   * @param fd Open for reading.
   */
  hasInput(fd: number): boolean {
    return (this.#poll(fd, POLLIN) & POLLIN) !== 0;
  }

  /** What a descriptor is ready for, without waiting; 0 for nothing of what is asked for. */
  #poll(fd: number, events: number): number {
    const poll = new Uint8Array(8);
    const view = new DataView(poll.buffer);
    view.setInt32(0, fd, true);
    view.setInt16(4, events, true);
    // SAFETY: one struct pollfd, and a struct timespec of zero: the call does not wait.
    const ready = Number(
      this.#c.bibiii(SYSCALL.ppoll, poll, 1n, new Uint8Array(16), 0n, 0n, 0n),
    );
    return ready <= 0 ? 0 : view.getInt16(6, true);
  }

  /**
   * Reads a whole file.
   *
   * @param fd A regular file; its offset is neither used nor moved.
   * @param length How many bytes it has; less come back when it has shrunk.
   */
  async readFile(fd: number, length: number): Promise<Uint8Array<ArrayBuffer>> {
    // At least 128 bytes, so that the buffer lies outside of the JavaScript heap, where nothing
    // moves it while another thread fills it.
    const bytes = new Uint8Array(Math.max(length, 128));
    let offset = 0;
    while (offset < length) {
      const rest = bytes.subarray(offset, Math.min(length, offset + READ_CHUNK_BYTES));
      const wanted = [BigInt(rest.length), BigInt(offset), 0n, 0n] as const;
      // SAFETY: `rest` has the length given and is held until the call is over.
      const got = Number(
        length <= READ_INLINE_BYTES_MAX
          ? this.#c.ibiiii(SYSCALL.pread64, BigInt(fd), rest, ...wanted)
          : await holding(
            [bytes],
            () => this.#c.ibiiiiAsync(SYSCALL.pread64, BigInt(fd), rest, ...wanted),
          ),
      );
      if (got === -ERRNO.EINTR) continue;
      if (got < 0) throw systemError("cannot read the file", -got);
      if (got === 0) break;
      offset += got;
    }
    return bytes.subarray(0, offset);
  }

  /**
   * What kind of namespace a descriptor refers to.
   *
   * @returns A CLONE_NEW* flag, or a negative error number when it is no namespace.
   */
  namespaceKind(fd: number): number {
    return this.#integers(SYSCALL.ioctl, fd, NS_GET_NSTYPE, 0);
  }

  /**
   * Does something in another namespace. The thread that runs this JavaScript enters it and comes
   * back; other threads stay where they are. Where it cannot come back the process ends, because
   * from then on it would do everything in the wrong place.
   *
   * @param namespace Descriptor of the namespace.
   * @param kind Its CLONE_NEW* flag.
   * @param own Path of this thread's own namespace of that kind, such as `/proc/thread-self/ns/net`.
   * @param action What to do; it must not wait for anything.
   * @throws {SandboxError} When the namespace cannot be entered; or what `action` throws.
   */
  within<T>(namespace: number, kind: number, own: string, action: () => T): T {
    const home = this.open(own, OPEN.readOnly, "the namespace");
    try {
      const entered = this.#integers(SYSCALL.setns, namespace, kind, 0);
      if (entered < 0) throw systemError("cannot enter a namespace", -entered);
      try {
        return action();
      } finally {
        if (this.#integers(SYSCALL.setns, home, kind, 0) < 0) Deno.exit(1);
      }
    } finally {
      this.close(home);
    }
  }

  /**
   * Raises the limit of open files of this process to what is allowed.
   *
   * @returns The limit now in force.
   */
  raiseOpenFileLimit(): number {
    const limit = new BigUint64Array(2);
    const bytes = new Uint8Array(limit.buffer);
    // SAFETY: struct rlimit64 is two 64-bit integers: the soft and the hard limit.
    const got = Number(
      this.#c.iibbii(SYSCALL.prlimit64, 0n, RLIMIT_NOFILE, null, bytes, 0n, 0n),
    );
    if (got < 0) throw systemError("cannot read the limit of open files", -got);
    const hard = limit[1] ?? 0n;
    const before = limit[0] ?? 0n;
    limit[0] = hard;
    // SAFETY: as above, now as the new value.
    const set = this.#c.iibbii(SYSCALL.prlimit64, 0n, RLIMIT_NOFILE, bytes, null, 0n, 0n);
    return Number(set < 0n ? before : hard);
  }

  /**
   * Sets the nice value of the calling thread, that is of the one that runs this JavaScript. Threads
   * that it makes later begin with the same.
   *
   * @param nice -20 to 19; below the present one it takes CAP_SYS_NICE.
   * @returns Whether it was allowed.
   */
  setThreadNice(nice: number): boolean {
    // Linux keeps the nice value per thread, and 0 as "who" means the calling one: setpriority(2).
    return this.#integers(SYSCALL.setpriority, PRIO_PROCESS, 0, nice) === 0;
  }

  /**
   * Gives the pages of a mapping back to the system (madvise(2), MADV_DONTNEED): pages of a file that
   * were not changed come back from the page cache when they are touched again.
   *
   * @param address Start of the mapping; it must be private, of a file, and unchanged.
   * @returns Whether the kernel took the advice.
   */
  releasePages(address: number, lengthBytes: number): boolean {
    // SAFETY: no memory is handed over; that nothing is lost is the caller's to know, as said above.
    return this.#integers(SYSCALL.madvise, address, lengthBytes, MADV_DONTNEED) === 0;
  }

  #integers(number: bigint, a: number, b: number, c: number): number {
    return Number(this.#c.iiiiii(number, BigInt(a), BigInt(b), BigInt(c), 0n, 0n, 0n));
  }
}
