/**
 * Changes of a tree as messages for the guest, each of bounded size.
 *
 * @module
 */

import {
  VOLUME_SYNC_BYTES_MAX,
  VOLUME_SYNC_ENTRIES_MAX,
  type VolumeEntry,
} from "../../../guest/protocol/messages.ts";
import type { TreeChange, TreeNode } from "./tree_scan.ts";

/** The path of the one file of a volume that is a single file. */
export const SINGLE_FILE = "file";

/**
 * Reads what has changed, as lists of entries that one message carries each. Files that have gone
 * meanwhile are left out; the next look finds that out.
 *
 * @param top The tree's top on the host: a directory, or a single file.
 * @param changes What has changed.
 */
export async function* volumeEntries(
  top: string,
  changes: readonly TreeChange[],
): AsyncGenerator<readonly VolumeEntry[]> {
  let entries: VolumeEntry[] = [];
  let bytes = 0;
  for (const change of changes) {
    for await (const [entry, length] of entriesOf(top, change)) {
      if (
        entries.length === VOLUME_SYNC_ENTRIES_MAX || bytes + length > VOLUME_SYNC_BYTES_MAX
      ) {
        yield entries;
        entries = [];
        bytes = 0;
      }
      entries.push(entry);
      bytes += length;
    }
  }
  if (entries.length > 0) yield entries;
}

async function* entriesOf(
  top: string,
  { path, node }: TreeChange,
): AsyncGenerator<readonly [entry: VolumeEntry, bytes: number]> {
  if (node === undefined) {
    yield [{ kind: "gone", path }, 0];
  } else if (node.kind === "link") {
    yield [{ kind: "link", path, target: node.target }, 0];
  } else if (node.kind === "directory") {
    yield [{ kind: "directory", path, ...ownerOf(node) }, 0];
  } else {
    const isSingle = path === ".";
    const file = { kind: "file" as const, path: isSingle ? SINGLE_FILE : path, ...ownerOf(node) };
    yield* pieces(isSingle ? top : `${top}/${path}`, node.inode, file);
  }
}

function ownerOf({ mode, uid, gid }: Extract<TreeNode, { mode: number }>) {
  return { mode, uid, gid };
}

/** The content of a file, read at once so that its pieces fit together. */
async function* pieces(
  path: string,
  inode: number,
  file: Omit<Extract<VolumeEntry, { kind: "file" }>, "data" | "offset" | "last">,
): AsyncGenerator<readonly [entry: VolumeEntry, bytes: number]> {
  const content = await contentOf(path, inode);
  if (content === undefined) return;
  let offset = 0;
  do {
    const piece = content.subarray(offset, offset + VOLUME_SYNC_BYTES_MAX);
    const last = offset + piece.length >= content.length;
    yield [{ ...file, data: piece.toBase64(), offset, last }, piece.length];
    offset += piece.length;
  } while (offset < content.length);
}

/**
 * Reads a file, unless there is another one in its place by now: that could be a link to any file of
 * the host.
 */
async function contentOf(
  path: string,
  inode: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  try {
    using file = await Deno.open(path, { read: true });
    const { ino, isFile } = await file.stat();
    if (!isFile || (ino ?? 0) !== inode) return undefined;
    return await new Response(file.readable).bytes();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
