/**
 * Copies of mounts that are nowhere until they are put somewhere: open_tree(2), mount_setattr(2) and
 * move_mount(2), on descriptors only, so that no path can lead elsewhere in between. These calls wait
 * for no disk. Linux 5.12 and later; to put one into another copy, 6.15 and later.
 *
 * @module
 */

import { systemError } from "./errno.ts";
import { openLibrary } from "./library.ts";
import { OPEN, SYSCALL } from "./syscalls.ts";
import { cString } from "./system.ts";

const name = "quasaur_syscall";
const result = "i64";
const I = "i64";
const B = "buffer";

const TREE_SYMBOLS = {
  openTree: { name, parameters: [I, I, B, I, I, I, I], result },
  mountSetattr: { name, parameters: [I, I, B, I, B, I, I], result },
  moveMount: { name, parameters: [I, I, B, I, B, I, I], result },
} as const;

const AT_EMPTY_PATH = 0x1000;
const AT_RECURSIVE = 0x8000;
const OPEN_TREE_CLONE = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH = 0x40;
const MOUNT_ATTR_RDONLY = 0x01;
const MOUNT_ATTR_NOSUID = 0x02;
const MOUNT_ATTR_NODEV = 0x04;
const MOUNT_ATTR_NOEXEC = 0x08;
const MS_PRIVATE = 1n << 18n;
/** No path: the descriptor itself is meant. */
const EMPTY = cString("");
/** Bytes of struct mount_attr, first version. */
const MOUNT_ATTR_BYTES = 32n;

/** Handles mounts by descriptor. */
export class MountTrees {
  readonly #c: Deno.DynamicLibrary<typeof TREE_SYMBOLS>["symbols"];

  /**
   * Binds the functions.
   *
   * @param libraryPath See {@link openLibrary}.
   */
  constructor(libraryPath: string) {
    this.#c = openLibrary(libraryPath, TREE_SYMBOLS);
  }

  /**
   * Copies the mount that a file or directory is on, with all mounts below, from there on.
   *
   * @param fd What it starts at; may be open by O_PATH.
   * @returns A descriptor of the copy's root. The copy lives as long as it, or what is open in it.
   * @throws {SandboxError} `PermissionDenied` without CAP_SYS_ADMIN.
   */
  copy(fd: number): number {
    const flags = OPEN_TREE_CLONE | OPEN.closeOnExec | AT_EMPTY_PATH | AT_RECURSIVE;
    // SAFETY: the path is the empty C string.
    const tree = Number(
      this.#c.openTree(SYSCALL.openTree, BigInt(fd), EMPTY, BigInt(flags), 0n, 0n, 0n),
    );
    if (tree < 0) throw systemError("cannot copy a mount", -tree);
    return tree;
  }

  /**
   * Takes from a mount and those below it what guests have no use for: devices, set-user-id, mapping
   * files as code. What is mounted below it later shows nowhere else.
   *
   * @param fd The mount's root; may be open by O_PATH.
   * @param readonly Whether all of them are made read-only too.
   * @throws {SandboxError} `Internal` when it is no mount.
   */
  restrict(fd: number, readonly = false): void {
    const attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    this.#set(fd, attributes | (readonly ? MOUNT_ATTR_RDONLY : 0), MS_PRIVATE, true);
  }

  /**
   * Makes a mount read-only, but not those below it.
   *
   * @param fd As for {@link MountTrees.restrict}.
   * @throws {SandboxError} When somebody has it open for writing.
   */
  makeReadonly(fd: number): void {
    this.#set(fd, MOUNT_ATTR_RDONLY, 0n, false);
  }

  /**
   * Mounts a copy over a file or directory.
   *
   * @param tree From {@link MountTrees.copy}.
   * @param fd What is covered.
   * @returns 0, or a negative error number: EINVAL where one is a directory and the other is none,
   *   and on Linux before 6.15 where that is in a copy.
   */
  attach(tree: number, fd: number): number {
    const flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are the empty C string.
    return Number(
      this.#c.moveMount(
        SYSCALL.moveMount,
        BigInt(tree),
        EMPTY,
        BigInt(fd),
        EMPTY,
        BigInt(flags),
        0n,
      ),
    );
  }

  #set(fd: number, attributes: number, propagation: bigint, recursive: boolean): void {
    const flags = AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0);
    // struct mount_attr: what to set, what to clear, propagation, user namespace.
    const wanted = new BigUint64Array([BigInt(attributes), 0n, propagation, 0n]);
    const bytes = new Uint8Array(wanted.buffer);
    // SAFETY: the path is the empty C string, the structure has the length given.
    const error = -Number(
      this.#c.mountSetattr(
        SYSCALL.mountSetattr,
        BigInt(fd),
        EMPTY,
        BigInt(flags),
        bytes,
        MOUNT_ATTR_BYTES,
        0n,
      ),
    );
    if (error !== 0) throw systemError("cannot restrict a mount", error);
  }
}
