/**
 * Mounts in a pod process: it has no right to make any. What it gets was copied and restricted by the
 * sandboxer before it was handed over, so all that is left to do here is to keep it open.
 *
 * @module
 */

import { systemError } from "../native/errno.ts";
import { MountTrees } from "../native/mount_trees.ts";
import { AT_FDCWD, OPEN } from "../native/syscalls.ts";
import type { System } from "../native/system.ts";

/** Stands in for what mounts, where everything was mounted before. */
export class PassedTrees extends MountTrees {
  readonly #system: System;

  /**
   * Needs no rights.
   *
   * @param system Opens what was passed once more.
   */
  constructor(system: System) {
    super(system.libraryPath);
    this.#system = system;
  }

  /** Another descriptor of the same directory: it is a copy already. */
  override copy(fd: number): number {
    const path = `/proc/self/fd/${fd}`;
    const copy = this.#system.openAt(AT_FDCWD, path, OPEN.path, 0);
    if (copy < 0) throw systemError("cannot use a mount that was passed", -copy);
    return copy;
  }

  /** It is restricted already. */
  override restrict(): void {}

  /** It is read-only already, where it is to be. */
  override makeReadonly(): void {}
}
