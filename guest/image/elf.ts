/**
 * Reads from ELF files what building and checking an image asks for: which libraries a program
 * wants, the notes of a kernel and the `.modinfo` section of a module. Every offset in a file is
 * checked before it is used. Source: the System V ABI, chapter 4 and 5; elf(5).
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** Machine numbers of the architectures that there are guests for. */
export const ELF_MACHINES: Readonly<Record<string, number>> = { x86_64: 62 };

/** Kinds of program headers. */
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const PT_NOTE = 4;

/** Tags of the dynamic section. */
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DT_STRSZ = 10;

/** Most headers, entries and notes that are looked at: more is a damaged file. */
const ENTRIES_MAX = 65_536;

/** A part of the file. */
interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly size: number;
}

/** A note: whose it is, what kind, and its bytes. */
export interface ElfNote {
  /** Whose, such as `Xen`. */
  readonly owner: string;
  /** Which of the owner's. */
  readonly type: number;
  /** Its content. */
  readonly bytes: Uint8Array;
}

/** A 64-bit little-endian ELF file. */
export class ElfFile {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #segments: readonly Segment[];
  /** The machine that it is for: see {@link ELF_MACHINES}. */
  readonly machine: number;

  /**
   * Reads the headers.
   *
   * @param bytes The whole file, or as much of it as is asked for later.
   * @param name What it is called, for messages.
   * @throws {SandboxError} `FailedPrecondition` where it is no 64-bit little-endian ELF file.
   */
  constructor(bytes: Uint8Array, readonly name: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (!isElf64(bytes)) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot read "${name}": not a 64-bit little-endian ELF file`,
      );
    }
    this.machine = this.#u16(18);
    this.#segments = this.#readSegments();
  }

  /** The program that loads it; undefined for one that needs none. */
  interpreter(): string | undefined {
    const segment = this.#segments.find(({ type }) => type === PT_INTERP);
    return segment === undefined ? undefined : this.#text(segment.offset, segment.size);
  }

  /** The names of the libraries that it wants, in its order. */
  neededLibraries(): string[] {
    const dynamic = this.#segments.find(({ type }) => type === PT_DYNAMIC);
    if (dynamic === undefined) return [];
    const entries: { tag: number; value: number }[] = [];
    for (let at = dynamic.offset; at + 16 <= dynamic.offset + dynamic.size; at += 16) {
      entries.push({ tag: this.#u64(at), value: this.#u64(at + 8) });
    }
    const value = (wanted: number) => entries.find(({ tag }) => tag === wanted)?.value;
    const strings = this.#fileOffset(value(DT_STRTAB) ?? 0);
    const size = value(DT_STRSZ) ?? 0;
    return entries.filter(({ tag }) => tag === DT_NEEDED)
      .map((entry) => this.#text(strings + entry.value, size - entry.value));
  }

  /** Where its notes are: offsets and lengths in the file, which may lie beyond the bytes given. */
  noteRanges(): { readonly offset: number; readonly size: number }[] {
    return this.#segments.filter(({ type }) => type === PT_NOTE)
      .map(({ offset, size }) => ({ offset, size }));
  }

  /** Its notes. */
  notes(): ElfNote[] {
    return this.noteRanges().flatMap(({ offset, size }) => parseNotes(this.#slice(offset, size)));
  }

  /**
   * The content of a section.
   *
   * @param wanted Its name, such as `.modinfo`.
   * @returns undefined where there is none of that name.
   */
  section(wanted: string): Uint8Array | undefined {
    const [table, entryBytes, count] = [this.#u64(40), this.#u16(58), this.#u16(60)];
    const header = (index: number) => table + index * entryBytes;
    const names = this.#u64(header(this.#u16(62)) + 24);
    for (let index = 0; index < count; index++) {
      const at = header(index);
      if (this.#text(names + this.#u32(at), wanted.length + 1) === wanted) {
        return this.#slice(this.#u64(at + 24), this.#u64(at + 32));
      }
    }
    return undefined;
  }

  /** The program headers. */
  #readSegments(): Segment[] {
    const [table, entryBytes, count] = [this.#u64(32), this.#u16(54), this.#u16(56)];
    return Array.from({ length: count }, (_, index) => {
      const at = table + index * entryBytes;
      return {
        type: this.#u32(at),
        offset: this.#u64(at + 8),
        address: this.#u64(at + 16),
        size: this.#u64(at + 32),
      };
    });
  }

  /** Where in the file an address of the loaded program is. */
  #fileOffset(address: number): number {
    const segment = this.#segments.find((candidate) =>
      candidate.type === PT_LOAD && address >= candidate.address &&
      address < candidate.address + candidate.size
    );
    if (segment === undefined) throw this.#damaged();
    return segment.offset + address - segment.address;
  }

  /** The text at an offset: up to its end mark, or to so many bytes. */
  #text(offset: number, bytesMax: number): string {
    const bytes = this.#bytes.subarray(offset, offset + Math.max(0, bytesMax));
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  }

  #slice(offset: number, size: number): Uint8Array {
    if (offset + size > this.#bytes.length) throw this.#damaged();
    return this.#bytes.subarray(offset, offset + size);
  }

  #u16(offset: number): number {
    if (offset + 2 > this.#bytes.length) throw this.#damaged();
    return this.#view.getUint16(offset, true);
  }

  #u32(offset: number): number {
    if (offset + 4 > this.#bytes.length) throw this.#damaged();
    return this.#view.getUint32(offset, true);
  }

  /** Numbers above 2^53 lose their last bits; they are beyond the end of every file anyway. */
  #u64(offset: number): number {
    if (offset + 8 > this.#bytes.length) throw this.#damaged();
    return Number(this.#view.getBigUint64(offset, true));
  }

  #damaged(): SandboxError {
    return new SandboxError(
      "FailedPrecondition",
      `cannot read "${this.name}": its headers point beyond its end: the file is cut off or damaged`,
    );
  }
}

/**
 * Reads notes. What is cut off is left out.
 *
 * @param bytes The content of a segment of notes.
 */
export function parseNotes(bytes: Uint8Array): ElfNote[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const notes: ElfNote[] = [];
  for (let at = 0; at + 12 <= bytes.length && notes.length < ENTRIES_MAX;) {
    const [ownerBytes, contentBytes] = [view.getUint32(at, true), view.getUint32(at + 4, true)];
    const content = at + 12 + padded(ownerBytes);
    const owner = new TextDecoder().decode(bytes.subarray(at + 12, at + 12 + ownerBytes));
    notes.push({
      owner: owner.split("\0")[0] ?? "",
      type: view.getUint32(at + 8, true),
      bytes: bytes.subarray(content, content + contentBytes),
    });
    at = content + padded(contentBytes);
  }
  return notes;
}

/** Whether these are the first bytes of a 64-bit little-endian ELF file. */
function isElf64(bytes: Uint8Array): boolean {
  const magic = [0x7f, 0x45, 0x4c, 0x46, 2, 1];
  return bytes.length >= 64 && magic.every((byte, index) => bytes[index] === byte);
}

/** A length with what fills it up to the next multiple of 4. */
function padded(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}
