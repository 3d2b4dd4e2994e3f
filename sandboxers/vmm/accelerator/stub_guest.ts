/**
 * The smallest guest that there is: a kernel of a few bytes that counts for a moment and ends its
 * machine. How fast it gets there shows whether an accelerator is of any use, before a pod depends
 * on it.
 *
 * @module
 */

/** The exit status of a VMM whose guest came to its end: see {@link stubGuest}. */
export const STUB_STATUS = 33;

/** The port that the guest ends its machine by, where the VMM has an `isa-debug-exit` there. */
export const EXIT_PORT = 0xf4;

/** What the guest writes there; the VMM's exit status is twice that and one. */
const EXIT_VALUE = (STUB_STATUS - 1) / 2;

/** How far it counts: a tenth of a second where code is translated, a hundredth on a processor. */
const COUNT = 20_000_000;

/** Where in memory it is loaded. */
const LOAD_ADDRESS = 0x10_0000;

/** Offsets in the file: headers, note, code. */
const HEADER_BYTES = 52;
const PROGRAM_HEADER_BYTES = 32;
const NOTE_OFFSET = HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
const NOTE_BYTES = 20;
const CODE_OFFSET = NOTE_OFFSET + NOTE_BYTES;

/** The entry of kernels that need no boot loader. Source: Xen's elfnote.h, XEN_ELFNOTE_PHYS32_ENTRY. */
const PVH_NOTE = 18;

/**
 * Makes the guest: a 32-bit ELF file with the PVH entry, which begins in protected mode without
 * paging. It touches no memory.
 */
export function stubGuest(): Uint8Array<ArrayBuffer> {
  const code = machineCode();
  const file = new Uint8Array(CODE_OFFSET + code.length);
  const view = new DataView(file.buffer);
  const entry = LOAD_ADDRESS + CODE_OFFSET;
  file.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]); // ELF, 32 bits, little endian, version 1
  const u16 = (at: number, ...values: number[]) =>
    values.forEach((value, index) => view.setUint16(at + 2 * index, value, true));
  const u32 = (at: number, ...values: number[]) =>
    values.forEach((value, index) => view.setUint32(at + 4 * index, value, true));
  u16(16, 2, 3); // an executable for x86
  u32(20, 1, entry, HEADER_BYTES, 0, 0);
  u16(40, HEADER_BYTES, PROGRAM_HEADER_BYTES, 2, 0, 0, 0);
  // Both program headers: type, offset, virtual and physical address, sizes, flags, alignment.
  const [load, note] = [HEADER_BYTES, HEADER_BYTES + PROGRAM_HEADER_BYTES];
  u32(load, 1, 0, LOAD_ADDRESS, LOAD_ADDRESS, file.length, file.length, 5, 0x1000);
  const noteAddress = LOAD_ADDRESS + NOTE_OFFSET;
  u32(note, 4, NOTE_OFFSET, noteAddress, noteAddress, NOTE_BYTES, NOTE_BYTES, 4, 4);
  u32(NOTE_OFFSET, 4, 4, PVH_NOTE);
  file.set([0x58, 0x65, 0x6e, 0], NOTE_OFFSET + 12); // "Xen"
  u32(NOTE_OFFSET + 16, entry);
  file.set(code, CODE_OFFSET);
  return file;
}

/** Counts down, writes to the port, and stands still where that has no effect. */
function machineCode(): number[] {
  return [
    [0xb9, ...littleEndian(COUNT)], // mov ecx, COUNT
    [0x49], // dec ecx
    [0x75, 0xfd], // jnz back to dec
    [0xb8, ...littleEndian(EXIT_VALUE)], // mov eax, EXIT_VALUE
    [0x66, 0xba, EXIT_PORT, 0], // mov dx, EXIT_PORT
    [0xef], // out dx, eax
    [0xf4], // hlt
    [0xeb, 0xfd], // jmp back to hlt
  ].flat();
}

/** A number in four bytes. */
function littleEndian(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, (value >> 24) & 0xff];
}
