/**
 * The directories that a guest may open: its root file system and the directories that are mounted
 * into it. A WASI guest has no mounts; its C library opens each path below the longest of these
 * that fits. What follows from that: a mounted directory does not show when the guest lists its
 * parent, unless the image has a directory there; and a single file cannot be mounted.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { BindMountSpec, ContainerSpec } from "../lifecycle/spec.ts";
import type { Preopen } from "./engine.ts";
import { systemError } from "./native/errno.ts";
import { AT_FDCWD, OPEN } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";

/**
 * Single files that containerd and kubelet mount into every container. Guests do without them; any
 * other file that cannot be mounted is an error.
 */
const SKIPPED_FILES: ReadonlySet<string> = new Set([
  "/etc/hostname",
  "/etc/hosts",
  "/etc/resolv.conf",
  "/dev/termination-log",
]);

/** Opened directories for a guest. Disposing of them closes their descriptors. */
export interface GuestPreopens extends Disposable {
  /** The directories. */
  readonly preopens: readonly Preopen[];
  /** Mounts that were left out, by their path inside. */
  readonly skipped: readonly string[];
}

/**
 * Opens the directories of a container.
 *
 * @param system Opens them.
 * @param rootfs Descriptor of the root file system's directory; stays the caller's.
 * @param spec The container.
 * @throws {SandboxError} `NotFound` for a missing source; `InvalidArgument` for a mount that a WASI
 *   guest cannot have. Nothing stays open then.
 */
export function openPreopens(system: System, rootfs: number, spec: ContainerSpec): GuestPreopens {
  using opened = new DisposableStack();
  const preopens = new Map<string, Preopen>([
    ["/", { guestPath: "/", fd: rootfs, readonly: spec.readonlyRootfs }],
  ]);
  const skipped: string[] = [];
  for (const mount of spec.mounts) {
    const guestPath = normalize(mount.destination);
    const fd = openSource(system, mount);
    opened.adopt(fd, (open) => system.close(open));
    if (system.status(fd).kind === "directory") {
      // The last mount at a path covers those before it.
      preopens.set(guestPath, { guestPath, fd, readonly: mount.readonly });
    } else if (SKIPPED_FILES.has(guestPath)) {
      skipped.push(guestPath);
    } else {
      throw new SandboxError(
        "InvalidArgument",
        `cannot mount "${mount.source}" at "${guestPath}": a wasm guest can be given ` +
          "directories, not single files: mount the directory that holds it",
      );
    }
  }
  const release = opened.move();
  return { preopens: [...preopens.values()], skipped, [Symbol.dispose]: () => release.dispose() };
}

function openSource(system: System, mount: BindMountSpec): number {
  const fd = system.openAt(AT_FDCWD, mount.source, OPEN.path, 0);
  if (fd < 0) throw systemError(`cannot open the mount source "${mount.source}"`, -fd);
  return fd;
}

/** A mount's path without double and trailing slashes; `..` and colons cannot be passed on. */
function normalize(destination: string): string {
  const parts = destination.split("/").filter((part) => part !== "" && part !== ".");
  if (!destination.startsWith("/") || parts.includes("..") || destination.includes(":")) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot mount at "${destination}": expected an absolute path without ".." and ":"`,
    );
  }
  return `/${parts.join("/")}`;
}
