/**
 * Writes tar archives: POSIX ustar, and pax where a name or a size does not fit. Source: pax in
 * POSIX.1-2024, "ustar Interchange Format".
 *
 * @module
 */

import { concat } from "../../sandboxers/bytes.ts";

/** A member's header. */
export interface TarHeader {
  /** What it is. */
  readonly kind: "file" | "directory" | "symlink";
  /** Its path, relative. */
  readonly path: string;
  /** What a link leads to; else empty. */
  readonly target: string;
  /** Size of its content in bytes; 0 for what is no file. */
  readonly sizeBytes: number;
  /** Permission bits. */
  readonly mode: number;
  /** When it was changed, in seconds since the epoch. */
  readonly mtimeSeconds: number;
}

const BLOCK_BYTES = 512;
/** Longest name or link in a plain header, in bytes. */
const NAME_BYTES_MAX = 100;
/** Largest size in a plain header: eleven octal digits. */
const SIZE_BYTES_MAX = 0o77777777777;

const TYPES = { file: "0", directory: "5", symlink: "2" } as const;

const encoder = new TextEncoder();

/** The end of an archive. */
export const TAR_END: Uint8Array<ArrayBuffer> = new Uint8Array(2 * BLOCK_BYTES);

/**
 * The blocks before a member's content.
 *
 * @param header The member. It belongs to root: whoever unpacks it says whose it is.
 */
export function tarHeader(header: TarHeader): Uint8Array<ArrayBuffer> {
  const fields: [string, string][] = [];
  const { path, target, sizeBytes } = header;
  if (encoder.encode(path).length > NAME_BYTES_MAX) fields.push(["path", path]);
  if (encoder.encode(target).length > NAME_BYTES_MAX) fields.push(["linkpath", target]);
  if (sizeBytes > SIZE_BYTES_MAX) fields.push(["size", `${sizeBytes}`]);
  const plain = block(header, TYPES[header.kind], Math.min(sizeBytes, SIZE_BYTES_MAX));
  if (fields.length === 0) return plain;
  const records = encoder.encode(fields.map(([name, value]) => record(name, value)).join(""));
  const pax = { ...header, path: "PaxHeaders/member", target: "", mode: 0o644 };
  return concat([
    block(pax, "x", records.length),
    records,
    tarPadding(records.length),
    plain,
  ]);
}

/** What fills the last block of content. */
export function tarPadding(sizeBytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array((BLOCK_BYTES - sizeBytes % BLOCK_BYTES) % BLOCK_BYTES);
}

/** `LENGTH NAME=VALUE\n`, where the length counts itself. */
function record(name: string, value: string): string {
  const rest = encoder.encode(` ${name}=${value}\n`).length;
  let length = rest + `${rest}`.length;
  if (`${length}`.length !== `${rest}`.length) length = rest + `${length}`.length;
  return `${length} ${name}=${value}\n`;
}

function block(
  { path, target, mode, mtimeSeconds }: TarHeader,
  type: string,
  sizeBytes: number,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(BLOCK_BYTES);
  const text = (at: number, value: string, length: number) =>
    bytes.set(encoder.encode(value).subarray(0, length), at);
  const octal = (at: number, digits: number, value: number) =>
    text(at, Math.max(0, Math.floor(value)).toString(8).padStart(digits, "0"), digits);
  text(0, path, NAME_BYTES_MAX);
  octal(100, 7, mode & 0o7777);
  octal(108, 7, 0);
  octal(116, 7, 0);
  octal(124, 11, sizeBytes);
  octal(136, 11, mtimeSeconds);
  text(148, "        ", 8);
  text(156, type, 1);
  text(157, target, NAME_BYTES_MAX);
  text(257, "ustar\0" + "00", 8);
  const sum = bytes.reduce((all, byte) => all + byte, 0);
  text(148, `${sum.toString(8).padStart(6, "0")}\0 `, 8);
  return bytes;
}
