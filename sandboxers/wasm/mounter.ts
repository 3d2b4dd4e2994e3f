/**
 * Mounts root file systems by system call, in this process: no mount(8) is spawned.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Mounter } from "../lifecycle/mounter.ts";
import type { RootfsMount } from "../lifecycle/spec.ts";
import { makeLayerDirectories } from "../memory_layer.ts";
import { MS, type ParsedMount, parseMount, splitLayers } from "../mount_options.ts";
import { ERRNO, systemError } from "./native/errno.ts";
import { DEFAULT_LIBRARY_PATH } from "./native/library.ts";
import { MountCalls } from "./native/mount_calls.ts";
import { System } from "./native/system.ts";

const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;
/** Mounts that are taken from one directory. */
const STACKED_MAX = 256;
/** mount(2) takes one page of data; on every page size at least this. */
const DATA_BYTES_MAX = 4_095;
/** Longest string that fsconfig(2) takes. */
const VALUE_BYTES_MAX = 255;

/** Flags that a bind mount takes only in a second step. */
const BIND_LATER = MS.readOnly | MS.noSuid | MS.noDev | MS.noExec | MS.noAtime | MS.noDirAtime |
  MS.relatime | MS.strictAtime;

/** Attributes of fsmount(2) for flags of mount(2). */
const ATTRIBUTES: readonly (readonly [flag: number, attribute: number])[] = [
  [MS.readOnly, 0x01],
  [MS.noSuid, 0x02],
  [MS.noDev, 0x04],
  [MS.noExec, 0x08],
  [MS.noAtime, 0x10],
  [MS.strictAtime, 0x20],
  [MS.noDirAtime, 0x80],
];

/** Mounts overlays and bind mounts in this process's mount namespace. */
export class SystemMounter implements Mounter {
  readonly #calls: MountCalls;
  readonly #system: System;

  /**
   * Binds the system calls.
   *
   * @param libraryPath The guest library; see native/library.ts.
   */
  constructor(libraryPath: string = DEFAULT_LIBRARY_PATH) {
    this.#calls = new MountCalls(libraryPath);
    this.#system = new System(libraryPath);
  }

  /** See {@link Mounter.mount}. */
  async mount(mounts: readonly RootfsMount[], target: string): Promise<void> {
    const parsed = mounts.map(parseMount);
    let mounted = 0;
    try {
      for (const mount of parsed) {
        await makeLayerDirectories(mount, target);
        await this.#mountOne(mount, target, () => mounted++);
      }
    } catch (error) {
      for (; mounted > 0; mounted--) await this.#umountOne(target);
      throw error;
    }
  }

  /** See {@link Mounter.unmount}. */
  async unmount(target: string): Promise<void> {
    for (let i = 0; i < STACKED_MAX; i++) {
      const errno = await this.#umountOne(target);
      if (errno === ERRNO.EINVAL || errno === ERRNO.ENOENT) return;
      if (errno !== 0) throw systemError(`cannot unmount "${target}"`, errno);
      // Nearly always there was one; a look here is cheaper than one more call on another thread.
      if (!this.#system.isMountRoot(target)) return;
    }
    throw new SandboxError(
      "Internal",
      `cannot unmount "${target}": more than ${STACKED_MAX} mounts are on it`,
    );
  }

  /**
   * Takes the topmost mount away, with the files that are mounted below it. What is still used goes
   * out of sight now, and away with its last user. Returns 0 or an error number.
   */
  async #umountOne(target: string): Promise<number> {
    return -await this.#calls.umount(target, UMOUNT_NOFOLLOW | MNT_DETACH);
  }

  /** @param onMounted Called as soon as there is something to undo. */
  async #mountOne(mount: ParsedMount, target: string, onMounted: () => void): Promise<void> {
    const data = mount.data.join(",");
    if (new TextEncoder().encode(data).length > DATA_BYTES_MAX) {
      await this.#mountByLayers(mount, target);
      onMounted();
      return;
    }
    const { type, source, flags } = mount;
    const first = type === "bind" ? flags & (MS.bind | MS.recursive) : flags;
    check(await this.#calls.mount(source, target, type, first, data), mount, target);
    onMounted();
    const later = flags & BIND_LATER;
    if (type !== "bind" || later === 0) return;
    const remount = MS.remount | MS.bind | later;
    check(await this.#calls.mount(source, target, type, remount, ""), mount, target);
  }

  /** An overlay whose options do not fit into one page: option by option, layer by layer. */
  async #mountByLayers(mount: ParsedMount, target: string): Promise<void> {
    using opened = new DisposableStack();
    const context = check(this.#calls.fsopen(mount.type), mount, target);
    opened.defer(() => this.#system.close(context));
    for (const [key, value] of overlayOptions(mount.data)) {
      if (value !== undefined && new TextEncoder().encode(value).length > VALUE_BYTES_MAX) {
        throw new SandboxError(
          "InvalidArgument",
          `cannot mount the root file system at "${target}": an option of ${value.length} ` +
            `characters: most are ${VALUE_BYTES_MAX}: "${value}"`,
        );
      }
      check(this.#calls.fsconfig(context, key, value), mount, target);
    }
    check(this.#calls.fsconfigCreate(context), mount, target);
    const attributes = ATTRIBUTES.reduce(
      (sum, [flag, attribute]) => (mount.flags & flag) === 0 ? sum : sum | attribute,
      0,
    );
    const tree = check(await this.#calls.fsmount(context, attributes), mount, target);
    opened.defer(() => this.#system.close(tree));
    check(this.#calls.moveMount(tree, target), mount, target);
  }
}

/** Options as fsconfig(2) takes them: each lower layer by itself (Linux 6.8 and later). */
function overlayOptions(data: readonly string[]): [string, string | undefined][] {
  return data.flatMap((option): [string, string | undefined][] => {
    const equals = option.indexOf("=");
    if (equals < 0) return [[option, undefined]];
    const key = option.slice(0, equals);
    const value = option.slice(equals + 1);
    if (key !== "lowerdir") return [[key, value]];
    return splitLayers(value).map((layer) => ["lowerdir+", layer]);
  });
}

/** @returns The result of a call, where it is one. */
function check(result: number, mount: ParsedMount, target: string): number {
  if (result >= 0) return result;
  throw systemError(`cannot mount "${mount.source}" (${mount.type}) at "${target}"`, -result);
}
