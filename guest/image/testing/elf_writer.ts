/**
 * Writes small ELF files for tests: what {@link ElfFile} reads of programs, kernels and modules.
 *
 * @module
 */

/** What the file has. */
export interface ElfParts {
  /** The machine. Default x86_64. */
  readonly machine?: number;
  /** Its notes. */
  readonly notes?: readonly { readonly owner: string; readonly type: number }[];
  /** The content of its section `.modinfo`. */
  readonly modinfo?: string;
}

const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const SECTION_HEADER_BYTES = 64;

/**
 * Writes one.
 *
 * @param parts See {@link ElfParts}.
 */
export function elfFile(parts: ElfParts): Uint8Array<ArrayBuffer> {
  const encoder = new TextEncoder();
  const notes = (parts.notes ?? []).flatMap(({ owner, type }) => [...noteBytes(owner, type)]);
  const names = encoder.encode("\0.modinfo\0.shstrtab\0");
  const modinfo = encoder.encode(parts.modinfo ?? "");
  const noteAt = HEADER_BYTES + PROGRAM_HEADER_BYTES;
  const namesAt = noteAt + notes.length;
  const modinfoAt = namesAt + names.length;
  const sectionsAt = Math.ceil((modinfoAt + modinfo.length) / 8) * 8;
  const file = new Uint8Array(sectionsAt + 3 * SECTION_HEADER_BYTES);
  const view = new DataView(file.buffer);
  const u64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(18, parts.machine ?? 62, true);
  u64(32, HEADER_BYTES);
  u64(40, sectionsAt);
  view.setUint16(54, PROGRAM_HEADER_BYTES, true);
  view.setUint16(56, 1, true);
  view.setUint16(58, SECTION_HEADER_BYTES, true);
  view.setUint16(60, 3, true);
  view.setUint16(62, 2, true);
  view.setUint32(HEADER_BYTES, 4, true);
  u64(HEADER_BYTES + 8, noteAt);
  u64(HEADER_BYTES + 32, notes.length);
  file.set(notes, noteAt);
  file.set(names, namesAt);
  file.set(modinfo, modinfoAt);
  const section = (index: number, name: number, offset: number, size: number) => {
    view.setUint32(sectionsAt + index * SECTION_HEADER_BYTES, name, true);
    u64(sectionsAt + index * SECTION_HEADER_BYTES + 24, offset);
    u64(sectionsAt + index * SECTION_HEADER_BYTES + 32, size);
  };
  section(1, 1, modinfoAt, modinfo.length);
  section(2, 10, namesAt, names.length);
  return file;
}

/** A note without content. */
function noteBytes(owner: string, type: number): Uint8Array {
  const name = new TextEncoder().encode(`${owner}\0`);
  const bytes = new Uint8Array(12 + Math.ceil(name.length / 4) * 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, name.length, true);
  view.setUint32(8, type, true);
  bytes.set(name, 12);
  return bytes;
}

/** A kernel that can be entered without a boot loader. */
export function pvhKernel(): Uint8Array<ArrayBuffer> {
  return elfFile({ notes: [{ owner: "GNU", type: 3 }, { owner: "Xen", type: 18 }] });
}

/**
 * A module.
 *
 * @param depends The names of those that it needs.
 */
export function moduleFile(...depends: readonly string[]): Uint8Array<ArrayBuffer> {
  return elfFile({ modinfo: `license=GPL\0depends=${depends.join(",")}\0intree=Y\0` });
}
