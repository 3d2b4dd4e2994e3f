/**
 * The root of a container: an image on a disk with an overlay in the guest's memory on top, or a
 * directory of the shared tree as it is. Mountpoints that the image lacks are made by crun, which
 * looks paths up inside of the root, so that absolute links of an image stay in it.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { GuestRootfs } from "../protocol/messages.ts";
import type { Disks } from "./disks.ts";
import { must, mustGet } from "./errno.ts";
import { isDirectory, makeDirectory, mountAt, removeTree, unmountAt } from "./files.ts";
import { MS_MOVE, MS_NODEV, S_IFLNK, S_IFMT } from "./linux.ts";
import type { SharedTree } from "./shared_tree.ts";
import * as sys from "./sys.js";

const PLACE = "/run/rootfs";

/** The root of one container. */
export interface Rootfs {
  /** The directory. */
  readonly path: string;
  /**
   * Gives it up with all it holds; no process of the container is left. May be called once.
   *
   * @returns What was out of the ordinary, for the log.
   */
  release(): Promise<string[]>;
}

/** Where roots come from. */
export interface RootfsSources {
  /** The disks. */
  readonly disks: Disks;
  /** The shared tree. */
  readonly shared: SharedTree;
}

/** What a root is for. */
export interface RootfsUse {
  /** The container. */
  readonly container: string;
  /** Whether the container cannot write to it. */
  readonly readonly: boolean;
  /** Where something is mounted in it. */
  readonly mountpoints: readonly string[];
}

/**
 * Prepares the root of a container.
 *
 * @param rootfs Where it comes from.
 * @param use What it is for.
 * @param sources Disks and shared tree.
 * @throws AgentError As {@link Disks.acquire} and {@link SharedTree.path} throw it;
 *   `InvalidArgument` where it is not the root of a Linux system.
 */
export async function prepareRootfs(
  rootfs: GuestRootfs,
  use: RootfsUse,
  sources: RootfsSources,
): Promise<Rootfs> {
  if (rootfs.kind === "shared") return sharedRootfs(rootfs.path, use, sources.shared);
  const image = await sources.disks.acquire(rootfs.serial, rootfs.fsType);
  try {
    checkRoot(image, use.container);
    if (use.readonly && hasMountpoints(image, use.mountpoints)) {
      return { path: image, release: () => sources.disks.release(rootfs.serial) };
    }
    const path = mountOverlay(image, use.container);
    return {
      path,
      release: async () => [
        ...unmountOverlay(use.container),
        ...await sources.disks.release(rootfs.serial),
      ],
    };
  } catch (thrown) {
    await sources.disks.release(rootfs.serial);
    throw thrown;
  }
}

function sharedRootfs(path: string, use: RootfsUse, shared: SharedTree): Rootfs {
  let place = shared.path(path);
  if (isEmpty(place)) {
    // The guest may remember the directory from before the host has mounted something there.
    shared.forget(place);
    place = shared.path(path);
  }
  checkRoot(place, use.container);
  return {
    path: place,
    release: () => {
      shared.forget(place);
      return Promise.resolve([]);
    },
  };
}

/** Refuses what cannot be the root of a Linux system, before crun finds something odd in it. */
function checkRoot(path: string, container: string): void {
  if (!isDirectory(path)) {
    throw new AgentError(
      "InvalidArgument",
      `cannot create the container "${container}": its root file system is not a directory`,
    );
  }
  if (!isEmpty(path)) return;
  throw new AgentError(
    "InvalidArgument",
    `cannot create the container "${container}": its root file system is empty`,
  );
}

function isEmpty(path: string): boolean {
  const names = sys.readdir(path);
  return typeof names !== "number" && names.length === 0;
}

/**
 * Whether a read-only image has every mountpoint itself. A link on the way counts as no: where it
 * leads is for crun to find out.
 */
function hasMountpoints(image: string, mountpoints: readonly string[]): boolean {
  const places = mountpoints.map((place) => place.split("/").filter((part) => part !== ""));
  // Device nodes are made where no mount covers /dev.
  if (!places.some((parts) => parts.length === 1 && parts[0] === "dev")) return false;
  return places.every((parts) => {
    const isCovered = places.some((other) =>
      other.length < parts.length && other.every((part, index) => part === parts[index])
    );
    if (isCovered) return true;
    let path = image;
    return parts.every((part) => {
      path += `/${part}`;
      const stat = sys.lstat(path);
      return typeof stat !== "number" && (stat.mode & S_IFMT) !== S_IFLNK;
    });
  });
}

/** Where a layer's memory is that was mounted ahead; no container can have that name. */
const READY = `${PLACE}/.ready`;
let isReady = false;

function mountMemory(place: string): void {
  mountAt("tmpfs", place, "tmpfs", MS_NODEV, "mode=0700,size=50%");
}

/**
 * Mounts the memory of the next layer ahead.
 *
 * @throws AgentError What the kernel refused.
 */
export function prepareOverlay(): void {
  if (isReady) return;
  mountMemory(READY);
  isReady = true;
}

/** Moves the memory that is ready to its place; whether there was any. */
function takeMemory(place: string): boolean {
  if (!isReady) return false;
  isReady = false;
  makeDirectory(place);
  const isMoved = sys.mount(READY, place, null, MS_MOVE, null) >= 0;
  if (!isMoved) unmountAt(READY);
  sys.rmdir(READY);
  return isMoved;
}

/**
 * Puts a layer that can be written to, and is forgotten with the container, on top of an image.
 *
 * @param image A directory.
 * @param container The container.
 * @returns The root; {@link unmountOverlay} takes it away.
 * @throws AgentError What the kernel refused; nothing is left then.
 */
export function mountOverlay(image: string, container: string): string {
  const place = `${PLACE}/${container}`;
  const memory = `${place}/memory`;
  const root = `${place}/root`;
  try {
    if (!takeMemory(memory)) mountMemory(memory);
    makeUpper(image, `${memory}/upper`);
    must(`cannot make "${memory}/work"`, sys.mkdir(`${memory}/work`, 0o755));
    const options = `lowerdir=${image},upperdir=${memory}/upper,workdir=${memory}/work`;
    mountAt("overlay", root, "overlay", 0, options);
    return root;
  } catch (thrown) {
    unmountOverlay(container);
    throw thrown;
  }
}

/** The upper directory is what the root looks like: it has the owner and rights of the image's. */
function makeUpper(image: string, upper: string): void {
  const action = `cannot make "${upper}"`;
  const root = mustGet(action, sys.stat(image));
  must(action, sys.mkdir(upper, 0o755));
  must(action, sys.lchown(upper, root.uid, root.gid));
  must(action, sys.chmod(upper, root.mode & 0o7777));
}

/**
 * Takes the root of a container away.
 *
 * @returns What was out of the ordinary, for the log.
 */
export function unmountOverlay(container: string): string[] {
  const place = `${PLACE}/${container}`;
  const notes = [unmountAt(`${place}/root`), unmountAt(`${place}/memory`), removeTree(place)];
  return notes.filter((note) => note !== undefined);
}
