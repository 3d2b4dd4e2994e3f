/**
 * Mounts a single file over one of a container's. The place is found as if the container's directory
 * were the root (openat2 RESOLVE_IN_ROOT) and is then known by descriptor, so no link of an image
 * leads a mount, or a file that is made for it, out of the container.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { BindMountSpec } from "../lifecycle/spec.ts";
import { ERRNO, systemError } from "./native/errno.ts";
import type { MountTrees } from "./native/mount_trees.ts";
import { OPEN, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";

const RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
/** Modes of what is made for a mount, as other runtimes make it. */
const DIRECTORY_MODE = 0o755;
const FILE_MODE = 0o644;

/** What is needed to mount a file. */
export interface FileMountCalls {
  /** Opens and makes. */
  readonly system: System;
  /** Mounts. */
  readonly trees: MountTrees;
}

/** The directory that a file is mounted below. */
export interface MountPlace {
  /** Its path as the guest knows it; `/`, or without a slash at its end. */
  readonly guestPath: string;
  /** Its descriptor. */
  readonly fd: number;
  /** Whether what is missing may be made in it. */
  readonly mayCreate: boolean;
}

/**
 * Mounts a file. What is missing at its destination is made, as it is by other runtimes.
 *
 * @param calls System calls.
 * @param place The directory that holds the destination.
 * @param source Descriptor of the file; stays the caller's.
 * @param mount Its destination is an absolute path without `..`, inside `place`.
 * @throws {SandboxError} `InvalidArgument` when the destination is a directory; `FailedPrecondition`
 *   when it is missing and cannot be made, or the kernel cannot mount there.
 */
export function mountFile(
  { system, trees }: FileMountCalls,
  place: MountPlace,
  source: number,
  mount: BindMountSpec,
): void {
  const action = `cannot mount "${mount.source}" at "${mount.destination}"`;
  using opened = new DisposableStack();
  const close = (fd: number) => system.close(fd);
  const target = opened.adopt(openTarget(system, place, mount.destination, action), close);
  let error: number;
  try {
    const tree = opened.adopt(trees.copy(source), close);
    trees.restrict(tree, mount.readonly);
    error = -trees.attach(tree, target);
  } catch (cause) {
    throw SandboxError.from(cause, action);
  }
  if (error === ERRNO.EINVAL) {
    throw system.status(target).kind === "directory"
      ? new SandboxError(
        "InvalidArgument",
        `${action}: there is a directory in the image, and the source is none`,
      )
      : new SandboxError(
        "FailedPrecondition",
        `${action}: this kernel mounts no files in a directory that is mounted itself: ` +
          "use Linux 6.15 or later, or mount the directory that holds the file",
      );
  }
  if (error !== 0) throw systemError(action, error);
}

/** Opens the destination, and makes it first where it is missing. */
function openTarget(
  system: System,
  place: MountPlace,
  destination: string,
  action: string,
): number {
  const skipped = place.guestPath === "/" ? 0 : place.guestPath.split("/").length - 1;
  const names = destination.split("/").filter((name) => name !== "" && name !== ".").slice(skipped);
  const path = names.join("/");
  const found = system.openAt(place.fd, path, OPEN.path, RESOLVE);
  if (found >= 0) return found;
  if (found !== -ERRNO.ENOENT) throw systemError(action, -found);
  if (!place.mayCreate) {
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: no such file in the container, and its directory is not changed for a mount: ` +
        "create an empty file there",
    );
  }
  makeDirectories(system, place.fd, names.slice(0, -1), action);
  const flags = OPEN.create | OPEN.writeOnly | OPEN.nonblocking | OPEN.noTerminal;
  const made = system.openAt(place.fd, path, flags, RESOLVE, FILE_MODE);
  if (made < 0) throw systemError(`${action}: cannot make an empty file there`, -made);
  return made;
}

/** Makes the directories of a path that are missing, one by one. */
function makeDirectories(
  system: System,
  root: number,
  names: readonly string[],
  action: string,
): void {
  using opened = new DisposableStack();
  const open = (path: string) => system.openAt(root, path, OPEN.path | OPEN.directory, RESOLVE);
  let parent = root;
  for (const [index, name] of names.entries()) {
    const path = names.slice(0, index + 1).join("/");
    let directory = open(path);
    if (directory === -ERRNO.ENOENT) {
      // A link that leads nowhere stays as it is: there is something of that name already.
      system.makeDirectoryAt(parent, name, DIRECTORY_MODE);
      directory = open(path);
    }
    if (directory < 0) throw systemError(`${action}: cannot make "${path}"`, -directory);
    parent = opened.adopt(directory, (fd) => system.close(fd));
  }
}
