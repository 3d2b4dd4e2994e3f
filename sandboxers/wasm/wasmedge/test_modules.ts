/**
 * Small modules for tests, put together byte by byte: what no C compiler would make.
 *
 * @module
 */

/** An unsigned integer as LEB128. */
export function leb(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push(value % 0x80 | 0x80);
  return [...bytes, value];
}

/** Bytes of a name with its length. */
export function name(text: string): number[] {
  const bytes = new TextEncoder().encode(text);
  return [...leb(bytes.length), ...bytes];
}

/** A module from its sections, each `[id, ...content]`. */
export function moduleOf(...sections: readonly (readonly number[])[]): Uint8Array<ArrayBuffer> {
  const bytes = [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00];
  for (const [id = 0, ...content] of sections) {
    bytes.push(id, ...leb(content.length));
    for (const byte of content) bytes.push(byte);
  }
  return new Uint8Array(bytes);
}

/** What {@link program} makes a module of. */
export interface Program {
  /** Bodies of functions `() -> ()`, without locals and the final end; the first is `_start`. */
  readonly functions: readonly (readonly number[])[];
  /** Pages of memory: least and most. */
  readonly memory?: readonly [number, number?];
  /** Whether the memory is exported (default true). */
  readonly exportsMemory?: boolean;
  /** Entries of a table of functions: least and most. */
  readonly table?: readonly [number, number?];
}

/** A module with functions, a memory and a table. */
export function program(parts: Program): Uint8Array<ArrayBuffer> {
  const { functions, memory, exportsMemory = true, table } = parts;
  const limits = ([min, max]: readonly [number, number?]) =>
    max === undefined ? [0, ...leb(min)] : [1, ...leb(min), ...leb(max)];
  const exports = [[...name("_start"), 0, 0]];
  if (memory !== undefined && exportsMemory) exports.push([...name("memory"), 2, 0]);
  const bodies = functions.map((body) => [...leb(body.length + 2), 0, ...body, 0x0b]);
  return moduleOf(
    [1, 1, 0x60, 0, 0],
    [3, ...leb(functions.length), ...functions.map(() => 0)],
    ...table === undefined ? [] : [[4, 1, 0x70, ...limits(table)]],
    ...memory === undefined ? [] : [[5, 1, ...limits(memory)]],
    [7, exports.length, ...exports.flat()],
    [10, ...leb(functions.length), ...bodies.flat()],
  );
}

/** `i32.const`, for numbers up to 8,191. */
export function i32(value: number): number[] {
  return value < 64 ? [0x41, value] : [0x41, value & 0x7f | 0x80, value >> 7];
}

/** Calls itself without an end, in a way that no compiler turns into a loop. */
export const RECURSION: Uint8Array<ArrayBuffer> = program({
  memory: [1],
  functions: [
    [0x10, 1],
    [
      ...[...i32(4), 0x28, 2, 0, 0x0d, 0], // br_if 0 (i32.load 4), which is 0
      ...[0x10, 1], // call 1
      ...[...i32(0), ...i32(0), 0x28, 2, 0, ...i32(1), 0x6a, 0x36, 2, 0], // memory[0] += 1
    ],
  ],
});

/** Computes without an end. */
export const SPIN: Uint8Array<ArrayBuffer> = program({
  memory: [1],
  // loop: memory[0] += 1, again
  functions: [[
    0x03,
    0x40,
    ...i32(0),
    ...i32(0),
    0x28,
    2,
    0,
    ...i32(1),
    0x6a,
    0x36,
    2,
    0,
    0x0c,
    0,
    0x0b,
  ]],
});

/** Reads behind the end of its memory. */
export const OUT_OF_BOUNDS: Uint8Array<ArrayBuffer> = program({
  memory: [1, 1],
  // i32.load at 65,536 times 64
  functions: [[...i32(8_000), ...i32(8_000), 0x6c, 0x28, 2, 0, 0x1a]],
});

/**
 * Takes memory page by page until it gets no more, and gives up (`unreachable`) where `gives up`
 * says so, else returns.
 */
export function memoryEater(pages: number, givesUp: boolean): Uint8Array<ArrayBuffer> {
  const grow = [...i32(pages), 0x40, 0]; // memory.grow
  return program({
    memory: [1],
    functions: [[
      ...[0x03, 0x40, ...grow, ...[0x41, 0x7f], 0x47, 0x0d, 0, 0x0b], // loop while not -1
      ...givesUp ? [0x00] : [],
    ]],
  });
}
