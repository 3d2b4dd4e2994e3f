/**
 * Rewrites a module before it is compiled, for two things that V8 has no setting for.
 *
 * A limit of its memory: the maximum in the memory section.
 *
 * A way to stop it while it computes, since a worker in an endless loop cannot be ended from outside
 * (its `terminate()` waits for the loop). The module gets one more memory, of one page, shared with
 * the engine and unknown to the program. At the start of each function and each loop it looks at the
 * first word there, and traps where that is not zero.
 *
 * @module
 */

import { concat } from "../../bytes.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { refusal } from "../module_bytes.ts";
import { ByteReader, encodeLeb } from "./byte_reader.ts";
import { LOOP, skipInstruction, skipType } from "./instructions.ts";

/** The name by which a rewritten module exports the memory with the word that stops it. */
export const STOP_MEMORY = "quasaur:stop";

/** A page of linear memory in bytes. */
const PAGE_BYTES = 65_536;
const HEADER_BYTES = 8;

/** Identifiers of sections. */
const SECTION = { custom: 0, memory: 5, export: 7, code: 10 } as const;
/** Sections that come before the memory section. */
const BEFORE_MEMORY: ReadonlySet<number> = new Set([0, 1, 2, 3, 4]);

/** Flags of the limits of a memory. */
const HAS_MAXIMUM = 1;
const IS_SHARED = 2;
const IS_64_BIT = 4;
/** One shared page. */
const STOP_MEMORY_TYPE = [HAS_MAXIMUM | IS_SHARED, 1, 1];
/** The kind of an exported memory. */
const EXPORT_MEMORY = 2;

/** A section of a module. */
interface Section {
  readonly id: number;
  readonly content: Uint8Array<ArrayBuffer>;
}

/**
 * Rewrites a module.
 *
 * @param bytes A module that V8 has found valid and that imports no memory.
 * @param memoryLimitBytes Most bytes of linear memory; undefined for what the module allows.
 * @throws {SandboxError} `InvalidArgument` when it starts with more than the limit, or holds what is
 *   not supported.
 */
export function rewriteModule(
  bytes: Uint8Array<ArrayBuffer>,
  memoryLimitBytes: number | undefined,
): Uint8Array<ArrayBuffer> {
  const sections = withMemorySection(readSections(bytes));
  const own = ownMemories(sections);
  const parts: Uint8Array<ArrayBuffer>[] = [bytes.subarray(0, HEADER_BYTES)];
  for (const { id, content } of sections) {
    const reader = new ByteReader(content, 0);
    if (id === SECTION.memory) append(parts, id, rewriteMemories(reader, memoryLimitBytes));
    else if (id === SECTION.export) append(parts, id, rewriteExports(reader, own));
    else if (id === SECTION.code) append(parts, id, rewriteCode(reader, checkOf(own)));
    // What is said about instructions by their place is not true any more.
    else if (id !== SECTION.custom) append(parts, id, [content]);
  }
  return concat(parts);
}

function readSections(bytes: Uint8Array<ArrayBuffer>): Section[] {
  const reader = new ByteReader(bytes, HEADER_BYTES);
  const sections: Section[] = [];
  while (reader.at < bytes.length) {
    const id = reader.byte();
    const size = reader.u32();
    sections.push({ id, content: bytes.subarray(reader.at, reader.at + size) });
    reader.skip(size);
  }
  return sections;
}

/** The sections with one for memories among them, in the order that is prescribed. */
function withMemorySection(sections: readonly Section[]): readonly Section[] {
  if (sections.some(({ id }) => id === SECTION.memory)) return sections;
  const found = sections.findIndex(({ id }) => !BEFORE_MEMORY.has(id));
  const place = found < 0 ? sections.length : found;
  return sections.toSpliced(place, 0, { id: SECTION.memory, content: new Uint8Array(1) });
}

/** How many memories the program has: one, or none. */
function ownMemories(sections: readonly Section[]): number {
  const section = sections.find(({ id }) => id === SECTION.memory);
  return section === undefined ? 0 : new ByteReader(section.content, 0).u32();
}

function rewriteMemories(
  reader: ByteReader,
  limitBytes: number | undefined,
): Uint8Array<ArrayBuffer>[] {
  const count = reader.u32();
  if (count > 1) throw refusal("it is not valid: it has more than one memory");
  const types = count === 0 ? [] : limitedType(reader, limitBytes);
  return [new Uint8Array([count + 1, ...types, ...STOP_MEMORY_TYPE])];
}

/** The type of the program's memory, with a maximum that the limit allows. */
function limitedType(reader: ByteReader, limitBytes: number | undefined): number[] {
  const flags = reader.byte();
  if ((flags & IS_SHARED) !== 0) {
    throw refusal("it shares its memory among threads: threads are not supported");
  }
  if ((flags & ~(HAS_MAXIMUM | IS_64_BIT)) !== 0) {
    throw refusal("its memory is of a kind that is not supported with V8");
  }
  const min = reader.u64();
  const max = (flags & HAS_MAXIMUM) === 0 ? undefined : reader.u64();
  const limit = limitBytes === undefined ? undefined : BigInt(Math.floor(limitBytes / PAGE_BYTES));
  if (limit !== undefined && min > limit) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot instantiate the WebAssembly module: it starts with ` +
        `${min * BigInt(PAGE_BYTES)} bytes of memory, the limit is ${limitBytes}: ` +
        "raise the container's memory limit",
    );
  }
  const bound = limit === undefined || (max !== undefined && max < limit) ? max : limit;
  if (bound === undefined) return [flags, ...encodeLeb(min)];
  return [flags | HAS_MAXIMUM, ...encodeLeb(min), ...encodeLeb(bound)];
}

/** One export more. */
function rewriteExports(reader: ByteReader, memory: number): Uint8Array<ArrayBuffer>[] {
  const count = reader.u32();
  const name = new TextEncoder().encode(STOP_MEMORY);
  return [
    new Uint8Array(encodeLeb(count + 1)),
    reader.bytes.subarray(reader.at),
    new Uint8Array([name.length, ...name, EXPORT_MEMORY, memory]),
  ];
}

/** `if (atomic.load(stop[0])) unreachable`. */
function checkOf(memory: number): Uint8Array<ArrayBuffer> {
  // The memory argument: alignment 2 with the flag for a memory's index, the index, offset 0.
  return new Uint8Array([0x41, 0, 0xfe, 0x10, 0x42, memory, 0, 0x04, 0x40, 0x00, 0x0b]);
}

/** All function bodies, each with the checks in it. */
function rewriteCode(
  reader: ByteReader,
  check: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer>[] {
  const count = reader.u32();
  const parts: Uint8Array<ArrayBuffer>[] = [new Uint8Array(encodeLeb(count))];
  for (let left = count; left > 0; left--) {
    const size = reader.u32();
    const body = rewriteBody(reader, reader.at + size, check);
    parts.push(new Uint8Array(encodeLeb(lengthOf(body))), ...body);
  }
  return parts;
}

function rewriteBody(
  reader: ByteReader,
  end: number,
  check: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer>[] {
  let from = reader.at;
  for (let groups = reader.u32(); groups > 0; groups--) {
    reader.skipNumbers();
    skipType(reader);
  }
  const parts = [reader.bytes.subarray(from, reader.at), check];
  from = reader.at;
  while (reader.at < end) {
    if (skipInstruction(reader) !== LOOP) continue;
    parts.push(reader.bytes.subarray(from, reader.at), check);
    from = reader.at;
  }
  parts.push(reader.bytes.subarray(from, end));
  return parts;
}

function append(
  parts: Uint8Array<ArrayBuffer>[],
  id: number,
  content: readonly Uint8Array<ArrayBuffer>[],
): void {
  parts.push(new Uint8Array([id, ...encodeLeb(lengthOf(content))]));
  for (const part of content) parts.push(part);
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0);
}
