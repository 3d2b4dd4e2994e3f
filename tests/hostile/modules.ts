/**
 * Modules that mean harm, or that are shaped as no compiler would shape them.
 *
 * @module
 */

import {
  buildModule,
  type Bytes,
  EMPTY_BLOCK,
  EXPORT,
  flatten,
  type FunctionBody,
  OP,
  s,
  startModule,
  TYPE,
  u,
} from "./wasm_builder.ts";

/** Types that every module here has: `() -> ()` and `(i32) -> (i64)`. */
const TYPES = [[[], []], [[TYPE.i32], [TYPE.i64]]] as const;

/** Computes for ever, without ever calling the engine. */
export function endlessLoop(): Uint8Array<ArrayBuffer> {
  return startModule({ type: 0, code: [OP.loop, EMPTY_BLOCK, OP.br, 0, OP.end] });
}

/** A function that does nothing when it is called. */
const NOTHING: FunctionBody = { type: 0, code: [] };

/** Calls itself for ever. The call is no tail call: a result is used after it. */
export function deepRecursion(): Uint8Array<ArrayBuffer> {
  return startModule(
    { type: 0, code: [OP.i32Const, 0, OP.call, 1, OP.drop] },
    { types: TYPES, functions: [recursive([1])] },
  );
}

/** Two functions that call each other for ever. */
export function mutualRecursion(): Uint8Array<ArrayBuffer> {
  return startModule(
    { type: 0, code: [OP.i32Const, 0, OP.call, 1, OP.drop] },
    { types: TYPES, functions: [recursive([2]), recursive([1])] },
  );
}

/** What is done with a call's result: no sum, which a compiler could turn the recursion into. */
const AFTER_CALL: Bytes = [OP.i64Const, 3, OP.i64Rotl, OP.i64Const, 1, OP.i64Add];

/** Calls a function and does something with its result. */
function recursive(call: Bytes): FunctionBody {
  return {
    type: 1,
    code: [OP.localGet, 0, OP.i32Const, 1, OP.i32Add, OP.call, call, AFTER_CALL],
  };
}

/** How many 64-bit values a frame of {@link wideRecursion} keeps: 24 KB. */
const WIDE_LOCALS = 3_000;

/**
 * Calls itself for ever with 24 KB of values that each call must keep: they are read from memory
 * before the call and needed after it, and the callee could change the memory.
 */
export function wideRecursion(): Uint8Array<ArrayBuffer> {
  const local = (index: number): Bytes => u(index + 1);
  const indices = Array.from({ length: WIDE_LOCALS }, (_, index) => index);
  const load = indices.map((index): Bytes => [
    [OP.i32Const, s(index * 8), OP.i64Load, 3, 0],
    [OP.localSet, local(index)],
  ]);
  const sum = indices.map((index): Bytes => [OP.localGet, local(index), OP.i64Add]);
  const wide: FunctionBody = {
    type: 1,
    locals: [[WIDE_LOCALS, TYPE.i64]],
    code: [load, OP.localGet, 0, OP.i32Const, 1, OP.i32Add, OP.call, 1, AFTER_CALL, sum],
  };
  return startModule(
    { type: 0, code: [OP.i32Const, 0, OP.call, 1, OP.drop] },
    { types: TYPES, functions: [wide] },
  );
}

/** Grows its memory a page at a time until it gets no more, and then computes for ever. */
export function memoryBomb(): Uint8Array<ArrayBuffer> {
  return startModule({
    type: 0,
    code: [
      [OP.loop, EMPTY_BLOCK, OP.i32Const, 1, OP.memoryGrow, 0, OP.drop, OP.br, 0, OP.end],
    ],
  });
}

/** Says that it needs so many pages of 64 KiB from the start. */
export function declaredMemory(pages: number): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, { memory: { min: pages } });
}

/** Memory that threads would share; wasm threads are not on offer. */
export function sharedMemory(): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, { memory: { min: 1, max: 2, shared: true } });
}

/** Has tables of so many entries each. */
export function hugeTables(count: number, entries: number): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, { tables: Array.from({ length: count }, () => entries) });
}

/** Fills its one page of memory so many times before it starts. */
export function manyDataSegments(count: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16).fill(7);
  return startModule(NOTHING, {
    data: Array.from({ length: count }, (_, index) => [(index * 16) % 65_536, bytes] as const),
  });
}

/** A data segment that lies beyond the memory. */
export function dataBeyondMemory(): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, { data: [[65_530, new Uint8Array(100)]] });
}

/** Imports so many functions, which nobody has. */
export function manyImports(count: number): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, {
    imports: Array.from({ length: count }, (_, index) => ["env", `f${index}`, 0] as const),
  });
}

/** Imports the same WASI function so many times, which is allowed. */
export function sameImports(count: number): Uint8Array<ArrayBuffer> {
  const yields = ["wasi_snapshot_preview1", "sched_yield", 1] as const;
  return startModule(NOTHING, {
    types: [[[], []], [[], [TYPE.i32]]],
    imports: Array.from({ length: count }, () => yields),
  });
}

/** Exports one function under so many names. */
export function manyExports(count: number): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, {
    exports: Array.from(
      { length: count },
      (_, index) => [`f${index}`, EXPORT.function, 0] as const,
    ),
  });
}

/** Imports a function whose module and name are so many bytes long. */
export function longNames(bytes: number): Uint8Array<ArrayBuffer> {
  const text = "x".repeat(bytes);
  return startModule(NOTHING, { imports: [[text, text, 0]] });
}

/** Exports its start function under a second name of so many bytes. */
export function longExport(bytes: number): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, { exports: [["y".repeat(bytes), EXPORT.function, 0]] });
}

/** A function with so many local variables. */
export function manyLocals(count: number): Uint8Array<ArrayBuffer> {
  return startModule({ type: 0, locals: [[count, TYPE.i64]], code: [] });
}

/** Says that a function has 4 billion local variables, in a few bytes. */
export function billionsOfLocals(): Uint8Array<ArrayBuffer> {
  return startModule({ type: 0, locals: [[0xffff_ffff, TYPE.i64]], code: [] });
}

/** Blocks in blocks, so many deep. */
export function deepBlocks(depth: number): Uint8Array<ArrayBuffer> {
  const open = new Uint8Array(depth * 2);
  for (let at = 0; at < open.length; at += 2) open.set([OP.block, EMPTY_BLOCK], at);
  return startModule({ type: 0, code: [open, new Uint8Array(depth).fill(OP.end)] });
}

/** So many functions that do nothing. */
export function manyFunctions(count: number): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, { functions: Array.from({ length: count }, () => NOTHING) });
}

/** A custom section of so many bytes. */
export function hugeCustomSection(bytes: number): Uint8Array<ArrayBuffer> {
  return startModule(NOTHING, { custom: [["ballast", new Uint8Array(bytes)]] });
}

/** Says that a section has 4 billion items, and ends. */
export function billionsOfItems(section: number): Uint8Array<ArrayBuffer> {
  const lie = [section, 5, ...flatten([u(0xffff_ffff)])];
  return flatten([buildModule({ types: [[[], []]] }), lie]);
}
