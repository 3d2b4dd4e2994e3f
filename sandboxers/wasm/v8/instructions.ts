/**
 * Walks over the instructions of a function: how long each is. Source: the WebAssembly core
 * specification 3.0, chapter "Binary Format", with the threads proposal and the exception handling
 * that came before the present one.
 *
 * @module
 */

import type { SandboxError } from "../../lifecycle/errors.ts";
import { refusal } from "../module_bytes.ts";
import type { ByteReader } from "./byte_reader.ts";

/** The opcode of `loop`. */
export const LOOP = 0x03;

/** What follows an opcode. */
type Immediates = (reader: ByteReader) => void;

const none: Immediates = () => undefined;
const one: Immediates = (reader) => reader.skipNumbers();
const two: Immediates = (reader) => reader.skipNumbers(2);
const bytes = (count: number): Immediates => (reader) => reader.skip(count);

/** In flags of a memory argument: a memory's index follows. */
const HAS_MEMORY_INDEX = 0x40;
const memoryArgument: Immediates = (reader) => {
  const flags = reader.u32();
  reader.skipNumbers((flags & HAS_MEMORY_INDEX) === 0 ? 1 : 2);
};
const memoryArgumentAndLane: Immediates = (reader) => {
  memoryArgument(reader);
  reader.skip(1);
};

/** A type of a value, or of a block. References to a type have an index or a name behind them. */
export function skipType(reader: ByteReader): void {
  const first = reader.bytes[reader.at];
  reader.skipNumbers(first === 0x63 || first === 0x64 ? 2 : 1);
}

const typeList: Immediates = (reader) => {
  for (let left = reader.u32(); left > 0; left--) skipType(reader);
};
const branchTable: Immediates = (reader) => reader.skipNumbers(reader.u32() + 1);
const tryTable: Immediates = (reader) => {
  skipType(reader);
  for (let left = reader.u32(); left > 0; left--) {
    // catch and catch_ref name a tag before the label.
    reader.skipNumbers(reader.byte() < 2 ? 2 : 1);
  }
};
const branchOnCast: Immediates = (reader) => {
  reader.skip(1);
  reader.skipNumbers(3);
};

type Range = readonly [first: number, last: number, immediates: Immediates];

const PLAIN: readonly Range[] = [
  [0x00, 0x01, none],
  [0x02, 0x04, skipType],
  [0x05, 0x05, none],
  [0x06, 0x06, skipType],
  [0x07, 0x09, one],
  [0x0a, 0x0b, none],
  [0x0c, 0x0d, one],
  [0x0e, 0x0e, branchTable],
  [0x0f, 0x0f, none],
  [0x10, 0x10, one],
  [0x11, 0x11, two],
  [0x12, 0x12, one],
  [0x13, 0x13, two],
  [0x14, 0x15, one],
  [0x18, 0x18, one],
  [0x19, 0x1b, none],
  [0x1c, 0x1c, typeList],
  [0x1f, 0x1f, tryTable],
  [0x20, 0x26, one],
  [0x28, 0x3e, memoryArgument],
  [0x3f, 0x42, one],
  [0x43, 0x43, bytes(4)],
  [0x44, 0x44, bytes(8)],
  [0x45, 0xc4, none],
  [0xd0, 0xd0, one],
  [0xd1, 0xd1, none],
  [0xd2, 0xd2, one],
  [0xd3, 0xd4, none],
  [0xd5, 0xd6, one],
];

/** Instructions with a second number, by their first byte. */
const PREFIXED: Readonly<Record<number, readonly Range[]>> = {
  // Garbage-collected objects.
  0xfb: [
    [0, 1, one],
    [2, 5, two],
    [6, 7, one],
    [8, 10, two],
    [11, 14, one],
    [15, 15, none],
    [16, 16, one],
    [17, 19, two],
    [20, 23, one],
    [24, 25, branchOnCast],
    [26, 30, none],
  ],
  // Saturating conversions, bulk memory, tables, wide arithmetic.
  0xfc: [
    [0, 7, none],
    [8, 8, two],
    [9, 9, one],
    [10, 10, two],
    [11, 11, one],
    [12, 12, two],
    [13, 13, one],
    [14, 14, two],
    [15, 17, one],
    [19, 22, none],
  ],
  // Vectors.
  0xfd: [
    [0, 11, memoryArgument],
    [12, 13, bytes(16)],
    [14, 20, none],
    [21, 34, bytes(1)],
    [35, 83, none],
    [84, 91, memoryArgumentAndLane],
    [92, 93, memoryArgument],
    [94, 0x113, none],
  ],
  // Atomics.
  0xfe: [
    [0, 2, memoryArgument],
    [3, 3, bytes(1)],
    [0x10, 0x4e, memoryArgument],
  ],
};

/** The plain instructions by opcode: modules have millions of them. */
const BY_OPCODE: readonly (Immediates | undefined)[] = Array.from(
  { length: 256 },
  (_, opcode) => PLAIN.find(([first, last]) => opcode >= first && opcode <= last)?.[2],
);

/**
 * Passes over one instruction.
 *
 * @returns Its first byte.
 * @throws {SandboxError} `InvalidArgument` for one that is not known here.
 */
export function skipInstruction(reader: ByteReader): number {
  const opcode = reader.byte();
  const immediates = BY_OPCODE[opcode] ?? skipPrefix(reader, opcode);
  immediates(reader);
  return opcode;
}

/** What follows an instruction of which only the first byte was read. */
function skipPrefix(reader: ByteReader, opcode: number): Immediates {
  const ranges = PREFIXED[opcode];
  if (ranges === undefined) throw unknown(hex(opcode));
  const number = reader.u32();
  const range = ranges.find(([first, last]) => number >= first && number <= last);
  if (range === undefined) throw unknown(`${hex(opcode)} ${number}`);
  return range[2];
}

function unknown(name: string): SandboxError {
  return refusal(`it holds the instruction ${name}, which is not supported with V8`);
}

function hex(byte: number): string {
  return `0x${byte.toString(16)}`;
}
