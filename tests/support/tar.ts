/**
 * Writes tar archives (POSIX ustar) in memory, with the same bytes for the same input. Only what
 * image layers need: files, directories and symbolic links with short names.
 *
 * @module
 */

import { concat } from "../../sandboxers/bytes.ts";

/** One entry of an archive. Times are 0 and the owner is root, so that equal input gives equal bytes. */
export type TarEntry =
  | {
    readonly kind: "file";
    readonly path: string;
    readonly data: Uint8Array;
    readonly mode?: number;
  }
  | { readonly kind: "directory"; readonly path: string; readonly mode?: number }
  | { readonly kind: "symlink"; readonly path: string; readonly target: string };

/** The size of a tar block in bytes; every header and every file's data fill whole blocks. */
const BLOCK_BYTES = 512;

/** The longest path or link target that fits the name field of a ustar header, in bytes. */
const NAME_BYTES_MAX = 100;

const encoder = new TextEncoder();

/**
 * Makes an archive.
 *
 * @param entries What goes in, in this order; paths are relative, without a leading slash.
 * @returns The archive with its two closing blocks.
 * @throws {RangeError} When a path or link target is longer than 100 bytes.
 */
export function tar(entries: readonly TarEntry[]): Uint8Array<ArrayBuffer> {
  const parts: Uint8Array[] = [];
  for (const entry of entries) {
    parts.push(header(entry));
    if (entry.kind !== "file") continue;
    parts.push(entry.data, new Uint8Array(padding(entry.data.length)));
  }
  parts.push(new Uint8Array(2 * BLOCK_BYTES));
  return concat(parts);
}

/** How many zero bytes follow `size` bytes to fill the last block. */
function padding(size: number): number {
  return (BLOCK_BYTES - (size % BLOCK_BYTES)) % BLOCK_BYTES;
}

/** The header block of one entry. */
function header(entry: TarEntry): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  const text = (offset: number, value: string) => block.set(encoder.encode(value), offset);
  const octal = (offset: number, width: number, value: number) =>
    text(offset, value.toString(8).padStart(width - 1, "0"));
  const name = (offset: number, value: string) => {
    if (encoder.encode(value).length > NAME_BYTES_MAX) {
      throw new RangeError(`Cannot write "${value}" to a tar archive: longer than 100 bytes`);
    }
    text(offset, value);
  };
  name(0, entry.kind === "directory" ? `${entry.path}/` : entry.path);
  octal(100, 8, entry.kind === "symlink" ? 0o777 : entry.mode ?? defaultMode(entry.kind));
  octal(108, 8, 0); // owner
  octal(116, 8, 0); // group
  octal(124, 12, entry.kind === "file" ? entry.data.length : 0);
  octal(136, 12, 0); // modification time
  text(148, " ".repeat(8)); // the checksum counts itself as spaces
  text(156, { file: "0", symlink: "2", directory: "5" }[entry.kind]);
  if (entry.kind === "symlink") name(157, entry.target);
  text(257, "ustar\0" + "00");
  octal(148, 7, block.reduce((sum, byte) => sum + byte, 0));
  block[154] = 0;
  return block;
}

/** The mode of an entry that gives none. */
function defaultMode(kind: "file" | "directory"): number {
  return kind === "file" ? 0o644 : 0o755;
}
