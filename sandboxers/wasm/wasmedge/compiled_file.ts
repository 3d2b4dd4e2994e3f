/**
 * A look at compiled code before it is mapped: whether the file is whole, and whether its functions
 * keep to the stack that a guest's thread has. The code has no stack probes, so a function that
 * takes more stack at once than the guard below it is wide could reach what lies beyond.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { AT_FDCWD, OPEN } from "../native/syscalls.ts";
import type { System } from "../native/system.ts";

/** Most stack that one function may take, in bytes. */
export const FRAME_BYTES_MAX = 1_048_576;

/** Largest compiled file that is looked at, in bytes. */
const FILE_BYTES_MAX = 2_147_483_647;

/** ELF64: offsets in the file header and in a program header, and values. Source: elf.h. */
const ELF_MAGIC = 0x464c457f;
const ELF_HEADER_BYTES = 64;
const PROGRAM_HEADER_BYTES = 56;
const PT_LOAD = 1;
const PF_X = 1;

/** An instruction that ends with a 32-bit number. */
interface Pattern {
  /** Its bytes before the number. */
  readonly bytes: readonly number[];
  /** The one of them that is searched for: a rare one. */
  readonly rare: number;
  /** Whether the number is what the stack pointer goes up by, not down. */
  readonly up: boolean;
}

/**
 * Instructions of x86-64 that take a number of bytes from the stack: `sub rsp, n`, `add rsp, -n`,
 * `lea rsp, [rsp - n]`.
 */
const X86_PATTERNS: readonly Pattern[] = [
  { bytes: [0x48, 0x81, 0xec], rare: 1, up: false },
  { bytes: [0x48, 0x81, 0xc4], rare: 1, up: true },
  { bytes: [0x48, 0x8d, 0xa4, 0x24], rare: 2, up: true },
];

/** Why compiled code is not used. */
export type CompiledFlaw =
  /** The file is damaged: another compile may give a better one. */
  | "damaged"
  /** A function takes too much stack: it always will. */
  | "frames";

/**
 * Looks at a compiled file.
 *
 * @param path Absolute.
 * @returns What is wrong with it; undefined when nothing is.
 */
export async function compiledFlaw(
  system: System,
  path: string,
): Promise<CompiledFlaw | undefined> {
  const fd = system.openAt(AT_FDCWD, path, OPEN.readOnly, 0);
  if (fd < 0) return "damaged";
  try {
    const { kind, sizeBytes } = system.status(fd);
    if (kind !== "file" || sizeBytes > FILE_BYTES_MAX) return "damaged";
    return imageFlaw(await system.readFile(fd, sizeBytes), sizeBytes);
  } catch (error) {
    if (error instanceof SandboxError) return "damaged";
    throw error;
  } finally {
    system.close(fd);
  }
}

/**
 * Looks at the content of a compiled file.
 *
 * @param bytes The file as far as it could be read.
 * @param sizeBytes How long it should be.
 * @param arch The machine that it is for.
 */
export function imageFlaw(
  bytes: Uint8Array<ArrayBuffer>,
  sizeBytes: number = bytes.length,
  arch: typeof Deno.build.arch = Deno.build.arch,
): CompiledFlaw | undefined {
  if (bytes.length < Math.max(sizeBytes, ELF_HEADER_BYTES)) return "damaged";
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getUint32(0, true) !== ELF_MAGIC) return "damaged";
  const sectionsEnd = Number(view.getBigUint64(40, true)) +
    view.getUint16(58, true) * view.getUint16(60, true);
  const programs = Number(view.getBigUint64(32, true));
  const count = view.getUint16(56, true);
  if (sectionsEnd > bytes.length || programs + count * PROGRAM_HEADER_BYTES > bytes.length) {
    return "damaged";
  }
  for (let i = 0; i < count; i++) {
    const at = programs + i * PROGRAM_HEADER_BYTES;
    if (view.getUint32(at, true) !== PT_LOAD) continue;
    const start = Number(view.getBigUint64(at + 8, true));
    const end = start + Number(view.getBigUint64(at + 32, true));
    if (end > bytes.length) return "damaged";
    if ((view.getUint32(at + 4, true) & PF_X) === 0) continue;
    const code = bytes.subarray(start, end);
    if (arch === "aarch64" ? hasBigFrameArm(code) : hasBigFrameX86(code)) return "frames";
  }
  return undefined;
}

/** Bytes that only look like such an instruction are taken for one: then it is interpreted. */
function hasBigFrameX86(code: Uint8Array<ArrayBuffer>): boolean {
  return X86_PATTERNS.some((pattern) => hasBigNumber(code, pattern));
}

function hasBigNumber(code: Uint8Array<ArrayBuffer>, { bytes, rare, up }: Pattern): boolean {
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  const byte = bytes[rare] ?? 0;
  for (let hit = code.indexOf(byte); hit >= 0; hit = code.indexOf(byte, hit + 1)) {
    const start = hit - rare;
    const number = start + bytes.length;
    if (number + 4 > code.length || bytes.some((value, i) => code[start + i] !== value)) continue;
    const moved = view.getInt32(number, true);
    // Down by a negative number is down by more than 2 GiB.
    if (up ? -moved > FRAME_BYTES_MAX : moved < 0 || moved > FRAME_BYTES_MAX) return true;
  }
  return false;
}

/**
 * `sub sp, sp, #n, lsl #12` with too high a number, or `sub sp, sp, register`. Source: Arm
 * Architecture Reference Manual, SUB (immediate) and SUB (extended register), 64-bit.
 */
function hasBigFrameArm(code: Uint8Array<ArrayBuffer>): boolean {
  const view = new DataView(code.buffer, code.byteOffset, code.length);
  for (let at = 0; at + 4 <= code.length; at += 4) {
    const word = view.getUint32(at, true);
    const isShifted = (word & 0xffc003ff) >>> 0 === 0xd14003ff;
    if (isShifted && (word >>> 10 & 0xfff) * 4_096 > FRAME_BYTES_MAX) return true;
    if ((word & 0xffe003ff) >>> 0 === 0xcb2003ff) return true;
  }
  return false;
}
