/**
 * Disks with the images of root file systems: found by their serial numbers, mounted read-only once
 * for all containers that use them. A disk slot is there from the beginning and gets its content
 * later, and one disk after the other: nothing that the kernel remembers of the one before may be
 * taken for the next.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import { EBUSY, must } from "./errno.ts";
import { listDirectory, mountAt, tryReadText, unmountAt } from "./files.ts";
import { MS_NODEV, MS_RDONLY, O_EXCL, O_RDONLY } from "./linux.ts";
import { sleep } from "./loop.ts";
import * as sys from "./sys.js";

/** How a file system on a disk is told from something else. */
interface DiskFormat {
  /** Whether the first bytes after {@link SUPERBLOCK_OFFSET} are those of one. */
  matches(superblock: DataView): boolean;
  /** How large it is, in bytes. */
  sizeBytes(superblock: DataView): number;
  /** Mount options. */
  readonly options: string | null;
}

/** Where both file systems begin to say what they are. */
const SUPERBLOCK_OFFSET = 1024;
const SUPERBLOCK_BYTES = 128;

/** Which file systems a root can be on. Sources: the kernel's erofs_fs.h and ext4.h. */
const FORMATS: Readonly<Record<"erofs" | "ext4", DiskFormat>> = {
  erofs: {
    matches: (superblock) => superblock.getUint32(0, true) === 0xe0f5e1e2,
    sizeBytes: (superblock) => superblock.getUint32(36, true) * 2 ** superblock.getUint8(12),
    options: null,
  },
  ext4: {
    matches: (superblock) => superblock.getUint16(56, true) === 0xef53,
    sizeBytes: (superblock) =>
      superblock.getUint32(4, true) * 2 ** (10 + superblock.getUint32(24, true)),
    options: "noload",
  },
};

const PLACE = "/run/disks";
/** How long a disk that is being plugged in may take to be seen, in milliseconds. */
const APPEAR_MS = 5000;
/** How long the guest may take to see the content and size of a disk that is there. */
const CONTENT_MS = 1000;
/** How long the kernel may take to let go of a disk, in milliseconds. */
const RELEASE_MS = 2000;

interface MountedDisk {
  readonly fsType: string;
  readonly path: Promise<string>;
  device: string | undefined;
  users: number;
}

/** The disks that are mounted. */
export class Disks {
  readonly #mounted = new Map<string, MountedDisk>();
  /** By serial: the unmounting that has to be over before the next mounting. */
  readonly #leaving = new Map<string, Promise<unknown>>();

  /**
   * Mounts a disk, or takes part in its mount.
   *
   * @param serial Its serial number.
   * @param fsType What is on it.
   * @returns The directory.
   * @throws AgentError `NotFound` where no such disk comes, `FailedPrecondition` where something
   *   else is on it.
   */
  async acquire(serial: string, fsType: "erofs" | "ext4"): Promise<string> {
    if (!/^[A-Za-z0-9-]{1,20}$/.test(serial)) {
      throw new AgentError("InvalidArgument", `"${serial}" is not the serial number of a disk`);
    }
    const mounted = this.#mounted.get(serial) ?? this.#begin(serial, fsType);
    if (mounted.fsType !== fsType) {
      throw new AgentError(
        "FailedPrecondition",
        `cannot mount the disk "${serial}" as ${fsType}: it is mounted as ${mounted.fsType}`,
      );
    }
    mounted.users++;
    try {
      return await mounted.path;
    } catch (thrown) {
      if (this.#mounted.get(serial) === mounted) this.#mounted.delete(serial);
      throw thrown;
    }
  }

  /** Looks for a disk and reads it, for nothing: the next time is quicker where code is emulated. */
  rehearse(): void {
    const device = findDevice("slot0");
    if (device !== undefined) holds(device, FORMATS.erofs);
  }

  /**
   * Gives a disk up; the last user unmounts it, and waits until the kernel has let go of it.
   *
   * @returns What was out of the ordinary, for the log.
   */
  async release(serial: string): Promise<string[]> {
    const mounted = this.#mounted.get(serial);
    if (mounted === undefined || --mounted.users > 0) return [];
    this.#mounted.delete(serial);
    const leaving = this.#unmount(serial, mounted.device);
    this.#leaving.set(serial, leaving);
    try {
      return await leaving;
    } finally {
      if (this.#leaving.get(serial) === leaving) this.#leaving.delete(serial);
    }
  }

  #begin(serial: string, fsType: "erofs" | "ext4"): MountedDisk {
    const mounted: MountedDisk = {
      fsType,
      path: this.#mount(serial, fsType).then(({ path, device }) => {
        mounted.device = device;
        return path;
      }),
      device: undefined,
      users: 0,
    };
    this.#mounted.set(serial, mounted);
    return mounted;
  }

  async #mount(
    serial: string,
    fsType: "erofs" | "ext4",
  ): Promise<{ path: string; device: string }> {
    await this.#leaving.get(serial)?.catch(() => {});
    const device = await readyDevice(serial, fsType);
    const path = `${PLACE}/${serial}`;
    mountAt(device, path, fsType, MS_RDONLY | MS_NODEV, FORMATS[fsType].options);
    return { path, device };
  }

  async #unmount(serial: string, device: string | undefined): Promise<string[]> {
    const path = `${PLACE}/${serial}`;
    const note = unmountAt(path);
    sys.rmdir(path);
    const notes = note === undefined ? [] : [note];
    if (device === undefined) return notes;
    // A file system stays alive a little while after its last mount is gone.
    for (let waitedMs = 0; isInUse(device); waitedMs += 5) {
      if (waitedMs >= RELEASE_MS) return [...notes, `the disk "${serial}" is still in use`];
      await sleep(5);
    }
    return notes;
  }
}

/** The device node of a disk, once the file system that is expected is on it. */
async function readyDevice(serial: string, fsType: "erofs" | "ext4"): Promise<string> {
  let device: string | undefined;
  let seenMs = 0;
  for (let waitedMs = 0; waitedMs <= APPEAR_MS && seenMs <= CONTENT_MS; waitedMs += 10) {
    device = findDevice(serial);
    if (device !== undefined) {
      if (holds(device, FORMATS[fsType])) return device;
      seenMs += 10;
    }
    await sleep(10);
  }
  if (device === undefined) {
    throw new AgentError("NotFound", `cannot find the disk "${serial}": the guest has none`);
  }
  throw new AgentError(
    "FailedPrecondition",
    `cannot mount the disk "${serial}": it does not hold the file system ${fsType}`,
  );
}

function findDevice(serial: string): string | undefined {
  const name = listDirectory("/sys/block").find((name) =>
    name.startsWith("vd") && tryReadText(`/sys/block/${name}/serial`)?.trim() === serial
  );
  return name === undefined ? undefined : `/dev/${name}`;
}

/** Whether a disk has a whole file system now, read anew from the host. */
function holds(device: string, format: DiskFormat): boolean {
  const fd = sys.open(device, O_RDONLY);
  if (fd < 0) return false;
  try {
    must(`cannot read "${device}" anew`, sys.flushDisk(fd));
    const buffer = new ArrayBuffer(SUPERBLOCK_BYTES);
    const length = sys.pread(fd, buffer, 0, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET);
    const superblock = new DataView(buffer);
    return length === SUPERBLOCK_BYTES && format.matches(superblock) &&
      format.sizeBytes(superblock) <= diskBytes(device);
  } finally {
    sys.close(fd);
  }
}

/** The size of a disk; it follows the host's a moment later. */
function diskBytes(device: string): number {
  return 512 * Number(tryReadText(device.replace("/dev/", "/sys/block/") + "/size") ?? 0);
}

/** Whether a file system has a disk for itself. */
function isInUse(device: string): boolean {
  const fd = sys.open(device, O_RDONLY | O_EXCL);
  if (fd >= 0) sys.close(fd);
  return fd === -EBUSY;
}
