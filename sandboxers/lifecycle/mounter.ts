/**
 * How root file systems are mounted and unmounted. The lifecycle owns the mounts of a container
 * (made before the driver sees it, taken away after); each main gives it an implementation that fits
 * the permissions of its kind.
 *
 * @module
 */

import { SandboxError } from "./errors.ts";
import type { RootfsMount } from "./spec.ts";

/** Mounts and unmounts. Both calls are complete when they return. */
export interface Mounter {
  /**
   * Mounts a stack of mounts at one directory, the last on top. On failure nothing stays mounted.
   *
   * @param mounts At least one; types `overlay` and `bind`.
   * @param target An existing directory.
   */
  mount(mounts: readonly RootfsMount[], target: string): Promise<void>;
  /** Unmounts everything mounted at `target`. Succeeds where nothing is mounted or nothing is there. */
  unmount(target: string): Promise<void>;
}

/** A Mounter for callers whose root file systems are plain directories: it refuses to mount. */
export const noMounts: Mounter = {
  mount: () =>
    Promise.reject(
      new SandboxError("Unimplemented", "cannot mount a root file system here: give a directory"),
    ),
  unmount: () => Promise.resolve(),
};
