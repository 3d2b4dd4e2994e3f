/**
 * A program that does nothing but end, written byte by byte: what runsc is tried with. An ELF file of
 * 200 bytes needs no compiler and no root file system around it.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** What it ends with: nothing else does by accident. */
export const PROBE_STATUS = 42;

/** Where it is in memory. */
const BASE = 0x400000;
/** Bytes of the ELF header and of one program header (elf(5)). */
const HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;

/** What differs between processors: ELF's number, and code for `exit_group(PROBE_STATUS)`. */
const MACHINES: Readonly<Record<string, { readonly machine: number; readonly code: number[] }>> = {
  // mov edi, 42; mov eax, 231; syscall
  x86_64: {
    machine: 62,
    code: [0xbf, PROBE_STATUS, 0, 0, 0, 0xb8, 0xe7, 0, 0, 0, 0x0f, 0x05],
  },
  // mov x0, #42; mov x8, #94; svc #0
  aarch64: {
    machine: 183,
    code: [0x40, 0x05, 0x80, 0xd2, 0xc8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4],
  },
};

/**
 * The program.
 *
 * @param arch The processor, as `Deno.build.arch` names it.
 * @throws {SandboxError} `FailedPrecondition` for a processor that gVisor does not run on.
 */
export function probeProgram(arch: string = Deno.build.arch): Uint8Array<ArrayBuffer> {
  const found = MACHINES[arch];
  if (found === undefined) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot use gVisor: it does not run on "${arch}": expected x86_64 or aarch64`,
    );
  }
  const start = HEADER_BYTES + PROGRAM_HEADER_BYTES;
  const size = start + found.code.length;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const u16 = (at: number, value: number) => view.setUint16(at, value, true);
  const u32 = (at: number, value: number) => view.setUint32(at, value, true);
  const u64 = (at: number, value: number) => view.setBigUint64(at, BigInt(value), true);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  u16(16, 2); // an executable
  u16(18, found.machine);
  u32(20, 1);
  u64(24, BASE + start);
  u64(32, HEADER_BYTES);
  u16(52, HEADER_BYTES);
  u16(54, PROGRAM_HEADER_BYTES);
  u16(56, 1);
  const header = HEADER_BYTES;
  u32(header, 1); // loaded
  u32(header + 4, 5); // to read and execute
  u64(header + 16, BASE);
  u64(header + 24, BASE);
  u64(header + 32, size);
  u64(header + 40, size);
  u64(header + 48, 0x1000);
  bytes.set(found.code, start);
  return bytes;
}
