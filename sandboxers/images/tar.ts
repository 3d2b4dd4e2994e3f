/**
 * Reads tar archives as image layers have them: POSIX ustar and pax, and what GNU tar adds. Source:
 * pax in POSIX.1-2024, "ustar Interchange Format"; GNU tar manual, "Basic Tar Format".
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

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
export type TarKind =
  | "file"
  | "hardlink"
  | "symlink"
  | "directory"
  | "character-device"
  | "block-device"
  | "fifo"
  | "other";

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
  /** Who may do what with it, and who owns it. */
  readonly attributes: TarAttributes;
}

/** What a member is beside its content. */
export interface TarAttributes {
  /** Permission bits, with those for set-user-id and the like. */
  readonly mode: number;
  /** The owner's number. */
  readonly uid: number;
  /** The group's number. */
  readonly gid: number;
  /** When it was changed, in seconds since the epoch; may have a fraction. */
  readonly mtimeSeconds: number;
  /** Of a device. */
  readonly major: number;
  /** Of a device. */
  readonly minor: number;
  /** Extended attributes by name. */
  readonly xattrs: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/** The attributes of what has none: all zero. */
export const NO_ATTRIBUTES: TarAttributes = {
  mode: 0,
  uid: 0,
  gid: 0,
  mtimeSeconds: 0,
  major: 0,
  minor: 0,
  xattrs: new Map(),
};

const BLOCK_BYTES = 512;
/** Longest extended header that is read, in bytes. */
const HEADER_BYTES_MAX = 1_048_576;

const KINDS: Readonly<Record<string, TarKind>> = {
  "0": "file",
  "\0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "character-device",
  "4": "block-device",
  "5": "directory",
  "6": "fifo",
};

/** Of GNU tar: files with holes, which image layers do not have. */
const SPARSE_TYPE = "S";
const SPARSE_FIELD = "GNU.sparse.";
/** What names of extended attributes have before them. */
const XATTR_FIELD = "SCHILY.xattr.";

/** Names must come back as they are: what is no text is refused. */
const decoder = new TextDecoder("utf-8", { fatal: true });

/** The fields of an extended header. */
type Fields = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

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
    let extended: Fields = new Map();
    while (true) {
      const missing = await this.#source.skip(this.#rest + this.#padding);
      if (missing > 0) throw damaged("it ends in the middle of a member");
      const block = await this.#source.read(BLOCK_BYTES);
      if (block.length === 0 || block.every((byte) => byte === 0)) return undefined;
      const header = parseHeader(block);
      const sizeBytes = numberField(extended, "size") ?? header.sizeBytes;
      if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw damaged("a member has no size");
      this.#rest = sizeBytes;
      this.#padding = (BLOCK_BYTES - sizeBytes % BLOCK_BYTES) % BLOCK_BYTES;
      // Headers that speak of the next member.
      if (header.type === "x") {
        extended = new Map([...extended, ...parsePax(await this.#readHeader())]);
      } else if (header.type === "L" || header.type === "K") {
        const name = header.type === "L" ? "path" : "linkpath";
        extended = new Map([...extended, [name, untilNul(await this.#readHeader())]]);
      } else if (header.type !== "g") {
        return memberOf(header, extended, sizeBytes);
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

/** What a block says. */
type Header = ReturnType<typeof parseHeader>;

function parseHeader(block: Uint8Array<ArrayBuffer>) {
  if (block.length < BLOCK_BYTES) throw damaged("it ends in the middle of a header");
  const sum = block.reduce((all, byte, at) => all + (at >= 148 && at < 156 ? 0x20 : byte), 0);
  if (number(block.subarray(148, 156)) !== sum) throw damaged("a header's checksum is wrong");
  const isUstar = latin(block.subarray(257, 262)) === "ustar";
  return {
    block,
    type: String.fromCharCode(block[156] ?? 0),
    sizeBytes: number(block.subarray(124, 136)),
    hasPrefix: isUstar && block[262] === 0,
    isUstar,
  };
}

function memberOf({ block, type, ...header }: Header, fields: Fields, sizeBytes: number) {
  if (type === SPARSE_TYPE || [...fields.keys()].some((name) => name.startsWith(SPARSE_FIELD))) {
    throw damaged("it has a file with holes (sparse), which is not supported");
  }
  const field = (name: string, from: number, to: number): number =>
    numberField(fields, name) ?? number(block.subarray(from, to));
  const device = (from: number, to: number): number =>
    header.isUstar ? number(block.subarray(from, to)) : 0;
  const prefix = header.hasPrefix ? text(block.subarray(345, 500)) : "";
  const name = () => `${prefix === "" ? "" : `${prefix}/`}${text(block.subarray(0, 100))}`;
  return {
    kind: KINDS[type] ?? "other",
    path: textField(fields, "path") ?? name(),
    target: textField(fields, "linkpath") ?? text(block.subarray(157, 257)),
    sizeBytes,
    attributes: {
      mode: number(block.subarray(100, 108)) & 0o7777,
      uid: field("uid", 108, 116),
      gid: field("gid", 116, 124),
      mtimeSeconds: field("mtime", 136, 148),
      major: device(329, 337),
      minor: device(337, 345),
      xattrs: new Map(
        [...fields].filter(([key]) => key.startsWith(XATTR_FIELD))
          .map(([key, value]) => [key.slice(XATTR_FIELD.length), value]),
      ),
    },
  };
}

/** Records of the form `LENGTH NAME=VALUE\n`. */
function parsePax(bytes: Uint8Array<ArrayBuffer>): Fields {
  const fields = new Map<string, Uint8Array<ArrayBuffer>>();
  for (let at = 0; at < bytes.length;) {
    const space = bytes.indexOf(0x20, at);
    // A length has few digits.
    const length = Number(latin(bytes.subarray(at, Math.min(space, at + 16))));
    const end = at + length - 1;
    const equals = bytes.indexOf(0x3d, space);
    if (space < 0 || !Number.isInteger(length) || length <= 0 || equals < 0 || equals >= end) {
      throw damaged("an extended header is damaged");
    }
    fields.set(decode(bytes.subarray(space + 1, equals)), bytes.slice(equals + 1, end));
    at += length;
  }
  return fields;
}

function textField(fields: Fields, name: string): string | undefined {
  const value = fields.get(name);
  return value && decode(value);
}

function numberField(fields: Fields, name: string): number | undefined {
  const value = fields.get(name);
  return value && Number(latin(value));
}

/** Octal digits, or, where the first bit is set, a binary number. */
function number(field: Uint8Array<ArrayBuffer>): number {
  const [first = 0] = field;
  if ((first & 0x80) === 0) {
    const digits = latin(untilNul(field)).trim();
    return digits === "" ? 0 : /^[0-7]+$/.test(digits) ? parseInt(digits, 8) : NaN;
  }
  return field.reduce((all, byte, at) => all * 256 + (at === 0 ? byte & 0x7f : byte), 0);
}

function untilNul(field: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const end = field.indexOf(0);
  return end < 0 ? field : field.slice(0, end);
}

function text(field: Uint8Array<ArrayBuffer>): string {
  return decode(untilNul(field));
}

/** Bytes that are ASCII where they are what they should be. */
function latin(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw damaged("a name in it is no UTF-8");
  }
}

function damaged(reason: string): SandboxError {
  return new SandboxError("InvalidArgument", `cannot read the tar archive: ${reason}`);
}
