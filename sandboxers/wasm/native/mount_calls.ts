/**
 * The system calls that mount and unmount. They may wait for a disk, so they run on another thread;
 * each returns its result or a negative error number.
 *
 * @module
 */

import { holding } from "./hold.ts";
import { openLibrary } from "./library.ts";
import { SYSCALL } from "./syscalls.ts";

const name = "quasaur_syscall";
const result = "i64";
const nonblocking = true;
const I = "i64";
const B = "buffer";

const MOUNT_SYMBOLS = {
  mount: { name, parameters: [I, B, B, B, I, B, I], result, nonblocking },
  umount2: { name, parameters: [I, B, I, I, I, I, I], result, nonblocking },
  fsopen: { name, parameters: [I, B, I, I, I, I, I], result },
  fsconfig: { name, parameters: [I, I, I, B, B, I, I], result },
  fsmount: { name, parameters: [I, I, I, I, I, I, I], result, nonblocking },
  moveMount: { name, parameters: [I, I, B, I, B, I, I], result },
} as const;

/** fsconfig(2) commands. */
const FSCONFIG_SET_FLAG = 0n;
const FSCONFIG_SET_STRING = 1n;
const FSCONFIG_CMD_CREATE = 6n;
const FSOPEN_CLOEXEC = 1n;
const FSMOUNT_CLOEXEC = 1n;
const MOVE_MOUNT_F_EMPTY_PATH = 4n;
const AT_FDCWD = -100n;

/** Shortest buffer that is handed to another thread: see {@link holding}. */
const BUFFER_BYTES_MIN = 128;

/** Makes the system calls. */
export class MountCalls {
  readonly #c: Deno.DynamicLibrary<typeof MOUNT_SYMBOLS>["symbols"];

  /**
   * Binds the functions.
   *
   * @param libraryPath See {@link openLibrary}.
   */
  constructor(libraryPath: string) {
    this.#c = openLibrary(libraryPath, MOUNT_SYMBOLS);
  }

  /** mount(2). */
  async mount(
    source: string,
    target: string,
    type: string,
    flags: number,
    data: string,
  ): Promise<number> {
    const [s, t, y, d] = [padded(source), padded(target), padded(type), padded(data)];
    // SAFETY: four C strings, held until the call is over.
    return Number(
      await holding(
        [s, t, y, d],
        () => this.#c.mount(SYSCALL.mount, s, t, y, BigInt(flags), d, 0n),
      ),
    );
  }

  /** umount2(2). */
  async umount(target: string, flags: number): Promise<number> {
    const t = padded(target);
    // SAFETY: a C string, held until the call is over.
    return Number(
      await holding(
        [t],
        () => this.#c.umount2(SYSCALL.umount2, t, BigInt(flags), 0n, 0n, 0n, 0n),
      ),
    );
  }

  /** fsopen(2): begins a new mount of a file system. Returns a descriptor. */
  fsopen(type: string): number {
    // SAFETY: a C string.
    return Number(this.#c.fsopen(SYSCALL.fsopen, padded(type), FSOPEN_CLOEXEC, 0n, 0n, 0n, 0n));
  }

  /** fsconfig(2): sets an option, with a value or without. */
  fsconfig(fd: number, key: string, value: string | undefined): number {
    const command = value === undefined ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
    const text = value === undefined ? null : padded(value);
    // SAFETY: C strings, or NULL for a flag.
    return Number(
      this.#c.fsconfig(SYSCALL.fsconfig, BigInt(fd), command, padded(key), text, 0n, 0n),
    );
  }

  /** fsconfig(2): makes the file system with the options set so far. */
  fsconfigCreate(fd: number): number {
    return Number(
      this.#c.fsconfig(SYSCALL.fsconfig, BigInt(fd), FSCONFIG_CMD_CREATE, null, null, 0n, 0n),
    );
  }

  /** fsmount(2): returns a descriptor of the mount, which is nowhere yet. */
  async fsmount(fd: number, attributes: number): Promise<number> {
    return Number(
      await this.#c.fsmount(
        SYSCALL.fsmount,
        BigInt(fd),
        FSMOUNT_CLOEXEC,
        BigInt(attributes),
        0n,
        0n,
        0n,
      ),
    );
  }

  /** move_mount(2): puts a mount of {@link fsmount} at a directory. */
  moveMount(fd: number, target: string): number {
    // SAFETY: C strings; the first is empty.
    return Number(
      this.#c.moveMount(
        SYSCALL.moveMount,
        BigInt(fd),
        padded(""),
        AT_FDCWD,
        padded(target),
        MOVE_MOUNT_F_EMPTY_PATH,
        0n,
      ),
    );
  }
}

/** A C string in a buffer that lies outside of the JavaScript heap. */
function padded(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new TextEncoder().encode(text);
  const buffer = new Uint8Array(Math.max(bytes.length + 1, BUFFER_BYTES_MIN));
  buffer.set(bytes);
  return buffer;
}
