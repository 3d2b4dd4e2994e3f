/**
 * Writes the archive that the kernel unpacks as its first root file system, and reads it again for
 * checks. Everything in it belongs to root and was made at time 0, in the order of names: the same
 * files give the same bytes, whoever writes them. Source of the format: cpio(5), "newc", and the
 * kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** Something in the archive; its path is relative to the root, without a slash at its beginning. */
export type CpioEntry =
  | { readonly kind: "directory"; readonly path: string; readonly mode: number }
  | {
    readonly kind: "file";
    readonly path: string;
    readonly mode: number;
    readonly bytes: Uint8Array;
  }
  | { readonly kind: "link"; readonly path: string; readonly target: string };

/** The archive is filled up with zeros to a multiple of this: see {@link writeCpio}. */
export const CPIO_ALIGNMENT_BYTES = 4096;

/** The format's mark. */
const MAGIC = "070701";

/** The name of the entry that ends an archive. */
const TRAILER = "TRAILER!!!";

/** Bytes of an entry's header: the mark and 13 numbers of 8 hexadecimal digits. */
const HEADER_BYTES = 110;

/** File types in a mode. Source: inode(7). */
const TYPE_BITS = { directory: 0o040000, file: 0o100000, link: 0o120000 };

/** Most entries that are read. */
const ENTRIES_MAX = 100_000;

/**
 * Writes an archive. It is filled up to a multiple of 4096 bytes: QEMU's microvm puts the initrd at
 * the top of low memory and its firmware puts the ACPI tables into what is left of the last page;
 * where less than a page is left they overwrite each other, and the guest finds no devices.
 *
 * @param entries What is in it, in any order; parents of every path among them.
 * @returns The archive.
 */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array<ArrayBuffer> {
  const sorted = entries.toSorted((a, b) => a.path < b.path ? -1 : a.path > b.path ? 1 : 0);
  const parts: Uint8Array[] = [];
  sorted.forEach((entry, index) => parts.push(...entryParts(entry, index + 1)));
  parts.push(...recordParts(TRAILER, 0, 0, 1, new Uint8Array()));
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const archive = new Uint8Array(roundUp(length, CPIO_ALIGNMENT_BYTES));
  let at = 0;
  for (const part of parts) {
    archive.set(part, at);
    at += part.length;
  }
  return archive;
}

/**
 * Reads an archive.
 *
 * @param archive Its bytes, uncompressed.
 * @returns What is in it; other kinds than those of {@link CpioEntry} are left out.
 * @throws {SandboxError} `FailedPrecondition` where it is none, or is cut off.
 */
export function readCpio(archive: Uint8Array): CpioEntry[] {
  return readCpioAt(archive, 0).entries;
}

/**
 * Reads an archive that lies between others: the kernel unpacks one after the other.
 *
 * @param archive The bytes of all.
 * @param begin Where it begins.
 * @returns What is in it, as {@link readCpio} tells it, and where it ends, without what fills it up.
 * @throws {SandboxError} `FailedPrecondition` where there is none, or it is cut off.
 */
export function readCpioAt(
  archive: Uint8Array,
  begin: number,
): { readonly entries: CpioEntry[]; readonly end: number } {
  const entries: CpioEntry[] = [];
  for (let at = begin; entries.length < ENTRIES_MAX;) {
    const text = new TextDecoder().decode(archive.subarray(at, at + HEADER_BYTES));
    if (!text.startsWith(MAGIC)) throw notAnArchive(at);
    const number = (index: number) => parseInt(text.slice(6 + index * 8, 14 + index * 8), 16);
    const [mode, size, nameBytes] = [number(1), number(6), number(11)];
    const path = new TextDecoder()
      .decode(archive.subarray(at + HEADER_BYTES, at + HEADER_BYTES + nameBytes - 1));
    const content = at + roundUp(HEADER_BYTES + nameBytes, 4);
    if (!(content + size <= archive.length)) throw notAnArchive(at);
    if (path === TRAILER) return { entries, end: content };
    const bytes = archive.subarray(content, content + size);
    const entry = entryOf(path, mode, bytes);
    if (entry !== undefined) entries.push(entry);
    at = content + roundUp(size, 4);
  }
  throw notAnArchive(begin);
}

/** An entry from its parts. */
function entryOf(path: string, mode: number, bytes: Uint8Array): CpioEntry | undefined {
  switch (mode & 0o170000) {
    case TYPE_BITS.directory:
      return { kind: "directory", path, mode: mode & 0o7777 };
    case TYPE_BITS.file:
      return { kind: "file", path, mode: mode & 0o7777, bytes };
    case TYPE_BITS.link:
      return { kind: "link", path, target: new TextDecoder().decode(bytes) };
    default:
      return undefined;
  }
}

/** The bytes of an entry. */
function entryParts(entry: CpioEntry, inode: number): Uint8Array[] {
  switch (entry.kind) {
    case "directory":
      return recordParts(
        entry.path,
        inode,
        TYPE_BITS.directory | entry.mode,
        2,
        new Uint8Array(),
      );
    case "file":
      return recordParts(entry.path, inode, TYPE_BITS.file | entry.mode, 1, entry.bytes);
    case "link": {
      const target = new TextEncoder().encode(entry.target);
      return recordParts(entry.path, inode, TYPE_BITS.link | 0o777, 1, target);
    }
  }
}

/** A record: header and name, filled up to 4 bytes, and content, filled up as well. */
function recordParts(
  path: string,
  inode: number,
  mode: number,
  links: number,
  bytes: Uint8Array,
): Uint8Array[] {
  const name = new TextEncoder().encode(path);
  // Inode, mode, user, group, links, time, size, four device numbers, length of the name, checksum.
  const numbers = [inode, mode, 0, 0, links, 0, bytes.length, 0, 0, 0, 0, name.length + 1, 0];
  const header = MAGIC + numbers.map((value) => value.toString(16).padStart(8, "0")).join("");
  const head = new Uint8Array(roundUp(HEADER_BYTES + name.length + 1, 4));
  head.set(new TextEncoder().encode(header));
  head.set(name, HEADER_BYTES);
  return [head, bytes, new Uint8Array(roundUp(bytes.length, 4) - bytes.length)];
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

function notAnArchive(at: number): SandboxError {
  return new SandboxError(
    "FailedPrecondition",
    `cannot read the initrd: not an uncompressed cpio archive (newc) at byte ${at}`,
  );
}
