/**
 * The files of a container as all its guests get them: its root file system, the directories that
 * are mounted into it, and single files that are mounted over some of theirs.
 *
 * A guest's C library opens each path below the longest preopened directory that fits, so mounted
 * directories are given to guests beside the root, not mounted in it: they do not show when a guest
 * lists their parent, unless the image has a directory there. Files are mounted for real.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { type BindMountSpec, type ContainerSpec, rootfsPath } from "../lifecycle/spec.ts";
import type { Preopen } from "./engine.ts";
import { mountFile } from "./file_mount.ts";
import { systemError } from "./native/errno.ts";
import type { MountTrees } from "./native/mount_trees.ts";
import { AT_FDCWD, OPEN } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";
import { openRootfs } from "./rootfs.ts";

/** Opened files of a container. Disposing of them closes their descriptors. */
export interface ContainerFiles extends Disposable {
  /** Descriptor of the root file system's directory. */
  readonly root: number;
  /** The directories that a guest may open, the root among them. */
  readonly preopens: readonly Preopen[];
}

/** What {@link openFiles} works with. */
export interface FileCalls {
  /** Opens things. */
  readonly system: System;
  /** Copies mounts; undefined where this process has no privileges: then nothing is mounted. */
  readonly trees: MountTrees | undefined;
}

/** A directory of a container while its files are put together. */
interface Directory {
  readonly guestPath: string;
  readonly fd: number;
  readonly readonly: boolean;
  /** Whether what is missing for a mount may be made in it. */
  readonly mayCreate: boolean;
}

/** A file to mount. */
interface FileMount {
  /** Descriptor of the file. */
  readonly fd: number;
  readonly guestPath: string;
  readonly mount: BindMountSpec;
}

/**
 * Opens the files of a container.
 *
 * @param calls Opens and mounts.
 * @param spec The container; its root file system is in place. What is mounted in that goes with it.
 * @param podMounts What is mounted beside its own mounts.
 * @throws {SandboxError} `NotFound` for a missing source; `InvalidArgument` for a mount that a WASI
 *   guest cannot have. Nothing stays open then.
 */
export function openFiles(
  calls: FileCalls,
  spec: ContainerSpec,
  podMounts: readonly BindMountSpec[] = [],
): ContainerFiles {
  using opener = new Opener(calls);
  opener.openRoot(spec);
  for (const mount of [...podMounts, ...spec.mounts]) opener.openMount(mount);
  return opener.finish();
}

/** Opens one after the other; what is only needed in between is closed when it is disposed of. */
class Opener implements Disposable {
  readonly #calls: FileCalls;
  readonly #directories = new Map<string, Directory>();
  readonly #files: FileMount[] = [];
  readonly #temporary = new DisposableStack();
  readonly #kept = new DisposableStack();

  constructor(calls: FileCalls) {
    this.#calls = calls;
  }

  openRoot({ rootfs, readonlyRootfs }: ContainerSpec): void {
    const path = rootfsPath(rootfs);
    const mounted = rootfs.kind === "mounts";
    const opened = openRootfs(this.#calls.system, path);
    // The mount that was made for the container is used itself: what is mounted in it can be seen
    // from outside. Of a directory, which is the caller's, the guests get a copy.
    const fd = mounted ? this.#keep(opened) : this.#copy(opened, `"${path}"`);
    this.#calls.trees?.restrict(fd);
    const root = { guestPath: "/", fd, readonly: readonlyRootfs, mayCreate: mounted };
    this.#directories.set("/", root);
  }

  openMount(mount: BindMountSpec): void {
    const { system, trees } = this.#calls;
    const { source, readonly } = mount;
    const guestPath = normalize(mount.destination);
    const opened = system.openAt(AT_FDCWD, source, OPEN.path, 0);
    if (opened < 0) throw systemError(`cannot open the mount source "${source}"`, -opened);
    if (system.status(opened).kind !== "directory") {
      const fd = this.#temporary.adopt(opened, (open) => system.close(open));
      this.#files.push({ fd, guestPath, mount });
      return;
    }
    const fd = this.#copy(opened, `"${source}"`);
    trees?.restrict(fd);
    // The last mount at a path covers those before it.
    this.#directories.set(guestPath, { guestPath, fd, readonly, mayCreate: !readonly });
  }

  /** Mounts the files, where their directories can still be written to. */
  finish(): ContainerFiles {
    const { trees } = this.#calls;
    const writableBelow = new Set<Directory>();
    for (const file of this.#files) {
      const directory = this.#directoryOf(file.guestPath);
      this.#mountFile(directory, file);
      if (!file.mount.readonly) writableBelow.add(directory);
    }
    const directories = [...this.#directories.values()];
    for (const { fd, readonly } of directories) if (readonly) trees?.makeReadonly(fd);
    const preopens = directories.map((directory): Preopen => ({
      guestPath: directory.guestPath,
      fd: directory.fd,
      // Where the engine refused too, a writable file in a read-only directory could not be written.
      readonly: directory.readonly && !writableBelow.has(directory),
    }));
    const root = this.#directoryOf("/").fd;
    const kept = this.#kept.move();
    return { root, preopens, [Symbol.dispose]: () => kept.dispose() };
  }

  [Symbol.dispose](): void {
    this.#temporary.dispose();
    this.#kept.dispose();
  }

  #mountFile(directory: Directory, { fd, guestPath, mount }: FileMount): void {
    const { system, trees } = this.#calls;
    if (trees === undefined) {
      throw new SandboxError(
        "PermissionDenied",
        `cannot mount "${mount.source}" at "${guestPath}": to mount a single file takes root: ` +
          "mount the directory that holds it",
      );
    }
    mountFile({ system, trees }, directory, fd, mount);
  }

  /** The directory that a path of the guest is opened below. */
  #directoryOf(guestPath: string): Directory {
    for (let path = guestPath; path !== "/"; path = path.slice(0, path.lastIndexOf("/")) || "/") {
      const directory = this.#directories.get(path);
      if (directory !== undefined) return directory;
    }
    const root = this.#directories.get("/");
    if (root === undefined) throw new SandboxError("Internal", "the root was not opened");
    return root;
  }

  /** A copy of the mount from a directory on, which nobody else sees; without privileges itself. */
  #copy(fd: number, label: string): number {
    const { system, trees } = this.#calls;
    if (trees === undefined) return this.#keep(fd);
    try {
      return this.#keep(trees.copy(fd));
    } catch (error) {
      throw SandboxError.from(error, `cannot mount ${label}`);
    } finally {
      system.close(fd);
    }
  }

  #keep(fd: number): number {
    return this.#kept.adopt(fd, (open) => this.#calls.system.close(open));
  }
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
