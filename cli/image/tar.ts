/**
 * Reads tar archives as image layers have them: POSIX ustar and pax, and what GNU tar adds. Source:
 * pax in POSIX.1-2024, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
 *
 * @module
 */

import { SandboxError } from "../../mod.ts";

/** Bytes in their order. */
export interface ByteSource {
  /** Reads; less than `length` bytes come back at the end only. */
  read(length: number): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Goes on `length` bytes further.
   *
   * @returns How many of them are missing at the end, as far as that is known.
   */
  skip(length: number): Promise<number>;
}

/** What a member of an archive is. */
export type TarKind = "file" | "hardlink" | "symlink" | "directory" | "other";

/** A member of an archive. */
export interface TarMember {
  /** What it is. */
  readonly kind: TarKind;
  /** Its path as it stands there. */
  readonly path: string;
  /** What a link leads to; else empty. */
  readonly target: string;
  /** Size of its content in bytes. */
  readonly sizeBytes: number;
}

const BLOCK_BYTES = 512;
/** Longest extended header that is read, in bytes. */
const HEADER_BYTES_MAX = 1_048_576;

const KINDS: Readonly<Record<string, TarKind>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "5": "directory",
};

const decoder = new TextDecoder();

/** Walks through an archive. */
export class TarReader {
  readonly #source: ByteSource;
  /** Content of the current member that was not read, and the padding behind it. */
  #rest = 0;
  #padding = 0;

  /**
   * Nothing is read yet.
   *
   * @param source The archive, not compressed.
   */
  constructor(source: ByteSource) {
    this.#source = source;
  }

  /**
   * Goes on to the next member, whether the content of the last was read or not.
   *
   * @returns Undefined at the archive's end.
   * @throws {SandboxError} `InvalidArgument` where it is cut short or no archive.
   */
  async next(): Promise<TarMember | undefined> {
    let extended: Partial<Record<string, string>> = {};
    while (true) {
      const missing = await this.#source.skip(this.#rest + this.#padding);
      if (missing > 0) throw damaged("it ends in the middle of a member");
      const block = await this.#source.read(BLOCK_BYTES);
      if (block.length === 0 || block.every((byte) => byte === 0)) return undefined;
      const header = parseHeader(block);
      const sizeBytes = extended["size"] === undefined
        ? header.sizeBytes
        : Number(extended["size"]);
      if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw damaged("a member has no size");
      this.#rest = sizeBytes;
      this.#padding = (BLOCK_BYTES - sizeBytes % BLOCK_BYTES) % BLOCK_BYTES;
      // Headers that speak of the next member.
      if (header.type === "x") extended = { ...extended, ...parsePax(await this.#readHeader()) };
      else if (header.type === "L") {
        extended = { ...extended, path: text(await this.#readHeader()) };
      } else if (header.type === "K") {
        extended = { ...extended, linkpath: text(await this.#readHeader()) };
      } else if (header.type !== "g") {
        return {
          kind: KINDS[header.type] ?? "other",
          path: extended["path"] ?? header.path,
          target: extended["linkpath"] ?? header.target,
          sizeBytes,
        };
      }
    }
  }

  /**
   * Reads on in the content of the current member.
   *
   * @param length Most bytes to read.
   * @throws {SandboxError} `InvalidArgument` where the archive is cut short.
   */
  async read(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const wanted = Math.min(length, this.#rest);
    const bytes = await this.#source.read(wanted);
    if (bytes.length < wanted) throw damaged("it ends in the middle of a member");
    this.#rest -= bytes.length;
    return bytes;
  }

  async #readHeader(): Promise<Uint8Array<ArrayBuffer>> {
    if (this.#rest > HEADER_BYTES_MAX) throw damaged("a header is too long");
    return await this.read(this.#rest);
  }
}

function parseHeader(block: Uint8Array) {
  if (block.length < BLOCK_BYTES) throw damaged("it ends in the middle of a header");
  const sum = block.reduce((all, byte, at) => all + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  if (number(block.subarray(148, 156)) !== sum) throw damaged("a header's checksum is wrong");
  const prefix = text(block.subarray(257, 262)) === "ustar" && block[262] === 0
    ? text(block.subarray(345, 500))
    : "";
  const name = text(block.subarray(0, 100));
  return {
    type: String.fromCharCode(block[156] ?? 0),
    path: prefix === "" ? name : `${prefix}/${name}`,
    target: text(block.subarray(157, 257)),
    sizeBytes: number(block.subarray(124, 136)),
  };
}

/** Records of the form `LENGTH NAME=VALUE\n`. */
function parsePax(bytes: Uint8Array): Record<string, string> {
  const fields: Record<string, string> = {};
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(0x20, at);
    const length = Number(decoder.decode(bytes.subarray(at, space)));
    if (space < 0 || !Number.isInteger(length) || length <= space - at) {
      throw damaged("an extended header is damaged");
    }
    const record = decoder.decode(bytes.subarray(space + 1, at + length - 1));
    const equals = record.indexOf("=");
    fields[record.slice(0, equals)] = record.slice(equals + 1);
    at += length;
  }
  return fields;
}

/** Octal digits, or, where the first bit is set, a binary number. */
function number(field: Uint8Array): number {
  const [first = 0] = field;
  if ((first & 0x80) === 0) {
    const digits = text(field).trim();
    return digits === "" ? 0 : /^[0-7]+$/.test(digits) ? parseInt(digits, 8) : NaN;
  }
  return field.reduce((all, byte, at) => all * 256 + (at === 0 ? byte & 0x7f : byte), 0);
}

function text(field: Uint8Array): string {
  const end = field.indexOf(0);
  return decoder.decode(end < 0 ? field : field.subarray(0, end));
}

function damaged(reason: string): SandboxError {
  return new SandboxError("InvalidArgument", `cannot read the tar archive: ${reason}`);
}
