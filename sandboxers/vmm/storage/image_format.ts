/**
 * Which file system an image file holds, by the magic number of its superblock.
 *
 * Sources: linux fs/erofs/erofs_fs.h, fs/ext4/ext4.h, fs/squashfs/squashfs_fs.h.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** File systems that a guest can take its root from. */
export type ImageFormat = "erofs" | "ext4";

/** Where the superblocks of erofs and ext4 begin, in bytes. */
const SUPERBLOCK = 1024;
const EROFS_MAGIC = 0xe0f5e1e2;
const EXT4_MAGIC = 0xef53;
/** Where ext4's magic number is in its superblock, in bytes. */
const EXT4_MAGIC_OFFSET = 56;
/** `hsqs` */
const SQUASHFS_MAGIC = 0x73717368;
/** What is read of a file, in bytes. */
const HEAD_BYTES = SUPERBLOCK + 64;

/**
 * Says what an image file holds.
 *
 * @param path The file.
 * @throws {SandboxError} `InvalidArgument` where it is no file system that a guest can use;
 *   `PermissionDenied`.
 */
export async function imageFormat(path: string): Promise<ImageFormat> {
  const action = `cannot use "${path}" as a root file system`;
  const head = await readHead(path, action);
  const view = new DataView(head.buffer);
  if (head.length === HEAD_BYTES) {
    if (view.getUint32(SUPERBLOCK, true) === EROFS_MAGIC) return "erofs";
    if (view.getUint16(SUPERBLOCK + EXT4_MAGIC_OFFSET, true) === EXT4_MAGIC) return "ext4";
  }
  const isSquashfs = head.length >= 4 && view.getUint32(0, true) === SQUASHFS_MAGIC;
  throw new SandboxError(
    "InvalidArgument",
    `${action}: ${isSquashfs ? "it is a squashfs image" : "it is no file system image"}: ` +
      "expected an erofs or ext4 image (without a partition table), or a directory",
  );
}

async function readHead(path: string, action: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    using file = await Deno.open(path, { read: true });
    const head = new Uint8Array(HEAD_BYTES);
    let length = 0;
    while (length < head.length) {
      const count = await file.read(head.subarray(length));
      if (count === null) break;
      length += count;
    }
    return head.slice(0, length);
  } catch (error) {
    throw SandboxError.from(error, action);
  }
}
