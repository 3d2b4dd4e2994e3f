/**
 * Reads in the sections of a module what an engine would take from its host without asking: memory,
 * tables, locals, and code that runs while an instance is made. It runs before the engine's parser,
 * so that a small file that asks for very much never reaches it.
 *
 * @module
 */

import { concat } from "../bytes.ts";
import { refusal } from "./module_bytes.ts";

/** What a module asks for. */
export interface ModuleShape {
  /** Size of the file in bytes. */
  readonly sizeBytes: number;
  /** Pages of 64 KiB that its memory starts with, exported or not; 0 without one. */
  readonly memoryPagesMin: number;
  /** Entries that its tables start with, all together. */
  readonly tableEntriesMin: number;
  /** Size of its code section in bytes. */
  readonly codeBytes: number;
  /** How many functions it has itself. */
  readonly functions: number;
}

/** A module that may be given to an engine. */
export interface CheckedModule {
  /** What it asks for. */
  readonly shape: ModuleShape;
  /**
   * The module to load: the bytes as they came, or a copy with an upper bound for tables that had
   * none or a higher one, where the module may be growing them.
   */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Section ids: WebAssembly core specification, binary format, modules. */
const SECTION = { custom: 0, type: 1, table: 4, memory: 5, start: 8, code: 10 } as const;

/** Most entries that all tables of a module start with together; browsers have the same bound. */
const TABLE_ENTRIES_MAX = 10_000_000;
/**
 * Most entries that all tables of a module may grow to beyond their start. An engine grows a table
 * in one step that nothing can interrupt, on the heap of the process.
 */
const TABLE_GROWTH_MAX = 1_000_000;
/** Most tables. */
const TABLES_MAX = 1_000;
/** Most locals of one function: the bound of the browsers. Each takes 16 bytes of stack. */
const LOCALS_MAX = 50_000;
/** Most parameters, and most results, of a function: the bound of the browsers. */
const VALUES_MAX = 1_000;

/** The first byte of table.grow, and those that its second byte can be (a LEB128 may be padded). */
const MISC_PREFIX = 0xfc;
const TABLE_GROW = [0x0f, 0x8f];

const FUNCTION_FORM = 0x60;
/** Value types of one byte: numbers, v128, funcref, externref, exnref. */
const VALUE_TYPES: ReadonlySet<number> = new Set([0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f, 0x69]);
const HAS_MAX = 1;
const IS_SHARED = 2;
const IS_64_BIT = 4;

/**
 * Checks what a module asks for.
 *
 * @param bytes A module whose header was checked.
 * @throws {SandboxError} `InvalidArgument` when it is damaged, or asks for what no guest gets.
 */
export function checkModule(bytes: Uint8Array<ArrayBuffer>): CheckedModule {
  const reader = new Reader(bytes, 8, bytes.length);
  const tables: TableSection[] = [];
  let memoryPagesMin = 0;
  let codeBytes = 0;
  let functions = 0;
  let grows = false;
  while (!reader.done) {
    const start = reader.at;
    const id = reader.byte();
    const content = reader.part(reader.u32());
    const end = reader.at;
    if (id === SECTION.type) checkTypes(content);
    else if (id === SECTION.table) tables.push({ start, end, tables: readTables(content) });
    else if (id === SECTION.memory) memoryPagesMin += readMemories(content);
    else if (id === SECTION.start) throw startRefusal();
    else if (id === SECTION.code) {
      codeBytes += end - start;
      grows ||= mayGrowTables(bytes.subarray(start, end));
      functions += checkCode(content);
    }
  }
  const all = tables.flatMap((section) => section.tables);
  const tableEntriesMin = all.reduce((sum, { min }) => sum + min, 0);
  if (all.length > TABLES_MAX || tableEntriesMin > TABLE_ENTRIES_MAX) {
    throw refusal(
      `it has ${all.length} tables that start with ${tableEntriesMin} entries: ` +
        `most are ${TABLES_MAX} with ${TABLE_ENTRIES_MAX} in all`,
    );
  }
  const shape = { sizeBytes: bytes.length, memoryPagesMin, tableEntriesMin, codeBytes, functions };
  return { shape, bytes: grows ? boundTables(bytes, tables, all.length) : bytes };
}

/** A table as it is declared. */
interface TableType {
  readonly element: number;
  readonly min: number;
  readonly max: number | undefined;
}

/** A table section and where it lies in the file. */
interface TableSection {
  readonly start: number;
  readonly end: number;
  readonly tables: readonly TableType[];
}

/** Types other than functions belong to garbage collection, which no engine here offers. */
function checkTypes(reader: Reader): void {
  const count = reader.u32();
  for (let i = 0; i < count; i++) {
    if (reader.byte() !== FUNCTION_FORM) throw unsupported("garbage collection");
    for (let list = 0; list < 2; list++) {
      const values = reader.u32();
      if (values > VALUES_MAX) {
        throw refusal(
          `a function type has ${values} parameters or results: most are ${VALUES_MAX}`,
        );
      }
      for (let value = 0; value < values; value++) readValueType(reader);
    }
  }
}

function readValueType(reader: Reader): void {
  if (!VALUE_TYPES.has(reader.byte())) throw unsupported("typed references");
}

function readTables(reader: Reader): TableType[] {
  const tables: TableType[] = [];
  const count = reader.u32();
  for (let i = 0; i < count; i++) {
    const element = reader.byte();
    if (!VALUE_TYPES.has(element)) throw unsupported("typed references");
    tables.push({ element, ...readLimits(reader) });
  }
  return tables;
}

function readMemories(reader: Reader): number {
  const count = reader.u32();
  let pages = 0;
  for (let i = 0; i < count; i++) pages += readLimits(reader).min;
  return pages;
}

function readLimits(reader: Reader): { readonly min: number; readonly max: number | undefined } {
  const flags = reader.byte();
  if (flags & IS_64_BIT) throw unsupported("64-bit memory");
  if (flags & IS_SHARED) throw unsupported("shared memory (threads)");
  if (flags > HAS_MAX) throw damaged();
  const min = reader.u32();
  return { min, max: flags & HAS_MAX ? reader.u32() : undefined };
}

/** @returns How many functions there are. */
function checkCode(reader: Reader): number {
  const count = reader.u32();
  for (let i = 0; i < count; i++) {
    const body = reader.part(reader.u32());
    const groups = body.u32();
    let locals = 0;
    for (let group = 0; group < groups; group++) {
      locals += body.u32();
      readValueType(body);
      if (locals > LOCALS_MAX) {
        throw refusal(`one of its functions has ${locals} locals: most are ${LOCALS_MAX}`);
      }
    }
  }
  return count;
}

/** Whether the bytes of table.grow are somewhere in the code; they may mean something else there. */
function mayGrowTables(code: Uint8Array): boolean {
  for (let at = code.indexOf(MISC_PREFIX); at >= 0; at = code.indexOf(MISC_PREFIX, at + 1)) {
    if (TABLE_GROW.includes(code[at + 1] ?? 0)) return true;
  }
  return false;
}

/** A copy of the module with an upper bound for every table, where it lacks one. */
function boundTables(
  bytes: Uint8Array<ArrayBuffer>,
  sections: readonly TableSection[],
  count: number,
): Uint8Array<ArrayBuffer> {
  const growthMax = Math.floor(TABLE_GROWTH_MAX / Math.max(count, 1));
  const isFree = ({ min, max }: TableType) => max === undefined || max - min > growthMax;
  if (!sections.some((section) => section.tables.some(isFree))) return bytes;
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const { start, end, tables } of sections) {
    const content = [...leb(tables.length)];
    for (const table of tables) {
      const max = isFree(table) ? table.min + growthMax : table.max ?? table.min;
      content.push(table.element, HAS_MAX, ...leb(table.min), ...leb(max));
    }
    parts.push(bytes.subarray(at, start));
    parts.push(new Uint8Array([SECTION.table, ...leb(content.length), ...content]));
    at = end;
  }
  parts.push(bytes.subarray(at));
  return concat(parts);
}

/** An unsigned integer as LEB128. */
function leb(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push(value % 0x80 | 0x80);
  return [...bytes, value];
}

function damaged(): Error {
  return refusal("it is truncated or damaged: a section does not end where it says");
}

function unsupported(feature: string): Error {
  return refusal(`it needs ${feature}: build it without (target wasm32-wasip1)`);
}

function startRefusal(): Error {
  return refusal(
    "it has a start section, which would run before the guest is confined: " +
      'build it as a WASI command that starts with "_start" alone',
  );
}

/** Reads numbers from a part of a file, and never beyond it. */
class Reader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  /** Where the next byte is. */
  at: number;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.#bytes = bytes;
    this.#end = end;
    this.at = start;
  }

  get done(): boolean {
    return this.at >= this.#end;
  }

  byte(): number {
    if (this.done) throw damaged();
    return this.#bytes[this.at++] ?? 0;
  }

  /** An unsigned 32-bit integer as LEB128. */
  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) {
        if (value > 0xffff_ffff) throw damaged();
        return value;
      }
    }
    throw damaged();
  }

  /** A reader of the next `length` bytes, which are skipped here. */
  part(length: number): Reader {
    const end = this.at + length;
    if (end > this.#end) throw damaged();
    const part = new Reader(this.#bytes, this.at, end);
    this.at = end;
    return part;
  }
}
