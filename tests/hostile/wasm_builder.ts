/**
 * Builds WebAssembly modules byte by byte, so that tests can make modules that no compiler would:
 * deep, huge, or wrong on purpose. It checks nothing.
 *
 * Source: WebAssembly core specification, chapter "Binary Format".
 *
 * @module
 */

/** Bytes that are put together: numbers are single bytes. */
export type Bytes = readonly (number | Uint8Array | Bytes)[];

/** Value types. */
export const TYPE = { i32: 0x7f, i64: 0x7e, f64: 0x7c, funcref: 0x70 } as const;

/** Instructions, as far as the tests use them. */
export const OP = {
  unreachable: 0x00,
  block: 0x02,
  loop: 0x03,
  br: 0x0c,
  brIf: 0x0d,
  end: 0x0b,
  call: 0x10,
  drop: 0x1a,
  localGet: 0x20,
  localSet: 0x21,
  i64Load: 0x29,
  memoryGrow: 0x40,
  i32Const: 0x41,
  i64Const: 0x42,
  i32Eqz: 0x45,
  i32Add: 0x6a,
  i32Sub: 0x6b,
  i64Add: 0x7c,
  i64Rotl: 0x89,
  refNull: 0xd0,
} as const;

/** The type of a block without parameters and results. */
export const EMPTY_BLOCK = 0x40;

/** An unsigned LEB128 integer, below 2^53. */
export function u(value: number): Bytes {
  const bytes: number[] = [];
  do {
    const low = value % 128;
    value = Math.floor(value / 128);
    bytes.push(value > 0 ? low | 0x80 : low);
  } while (value > 0);
  return bytes;
}

/** A signed LEB128 integer of 32 bits. */
export function s(value: number): Bytes {
  const bytes: number[] = [];
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    if ((value === 0 && (low & 0x40) === 0) || (value === -1 && (low & 0x40) !== 0)) {
      bytes.push(low);
      return bytes;
    }
    bytes.push(low | 0x80);
  }
}

/** A name: its length and its UTF-8. */
export function name(text: string): Bytes {
  const bytes = new TextEncoder().encode(text);
  return [u(bytes.length), bytes];
}

/** A function of a module. */
export interface FunctionBody {
  /** Index of its type. */
  readonly type: number;
  /** Groups of local variables: how many, of which type. */
  readonly locals?: readonly (readonly [number, number])[];
  /** Instructions without the last `end`. */
  readonly code: Bytes;
}

/** A module to build; what is missing has no section. */
export interface ModuleParts {
  /** Function types: parameters and results. */
  readonly types?: readonly (readonly [readonly number[], readonly number[]])[];
  /** Imported functions: module, name, type index. */
  readonly imports?: readonly (readonly [string, string, number])[];
  /** Functions; their indices follow those of the imports. */
  readonly functions?: readonly FunctionBody[];
  /** Tables of references to functions, by their smallest size. */
  readonly tables?: readonly number[];
  /** The memory: smallest size and, if bounded, largest one, in pages of 64 KiB. */
  readonly memory?: { readonly min: number; readonly max?: number; readonly shared?: boolean };
  /** Exports: name, kind (0 function, 2 memory), index. */
  readonly exports?: readonly (readonly [string, number, number])[];
  /** Data segments of memory 0: offset and bytes. */
  readonly data?: readonly (readonly [number, Uint8Array])[];
  /** Custom sections: name and content. */
  readonly custom?: readonly (readonly [string, Uint8Array])[];
}

/** Kinds of exports. */
export const EXPORT = { function: 0, memory: 2 } as const;

/**
 * Builds a module.
 *
 * @param parts What is in it.
 */
export function buildModule(parts: ModuleParts): Uint8Array<ArrayBuffer> {
  const { types, imports, functions, tables, memory, exports, data, custom = [] } = parts;
  return flatten([
    [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    list(1, types, ([params, results]) => [0x60, vector(params), vector(results)]),
    list(2, imports, ([module, field, type]) => [name(module), name(field), 0x00, u(type)]),
    list(3, functions, ({ type }) => u(type)),
    list(4, tables, (size) => [TYPE.funcref, 0x00, u(size)]),
    list(
      5,
      memory && [memory],
      ({ min, max, shared = false }) =>
        max === undefined ? [0x00, u(min)] : [shared ? 0x03 : 0x01, u(min), u(max)],
    ),
    list(7, exports, ([text, kind, index]) => [name(text), kind, u(index)]),
    list(10, functions, ({ locals = [], code }) => {
      const groups = locals.map(([count, type]) => [u(count), type]);
      const body = flatten([u(locals.length), groups, code, OP.end]);
      return [u(body.length), body];
    }),
    list(
      11,
      data,
      ([offset, bytes]) => [0x00, OP.i32Const, s(offset), OP.end, u(bytes.length), bytes],
    ),
    custom.map(([text, bytes]) => section(0, [name(text), bytes])),
  ]);
}

/** A module that exports a memory and one function as `_start`, as WASI wants it. */
export function startModule(
  start: FunctionBody,
  more: ModuleParts = {},
): Uint8Array<ArrayBuffer> {
  const index = more.imports?.length ?? 0;
  return buildModule({
    memory: { min: 1 },
    ...more,
    types: more.types ?? [[[], []]],
    functions: [start, ...more.functions ?? []],
    exports: [
      ["_start", EXPORT.function, index],
      ["memory", EXPORT.memory, 0],
      ...more.exports ?? [],
    ],
  });
}

/** Puts bytes together. */
export function flatten(bytes: Bytes): Uint8Array<ArrayBuffer> {
  const flat = new Uint8Array(size(bytes));
  write(bytes, flat, 0);
  return flat;
}

/** A section that is a list; nothing for a list that is missing. */
function list<T>(id: number, items: readonly T[] | undefined, encode: (item: T) => Bytes): Bytes {
  return items === undefined ? [] : section(id, [u(items.length), items.map(encode)]);
}

function section(id: number, content: Bytes): Bytes {
  return [id, u(size(content)), content];
}

function vector(values: readonly number[]): Bytes {
  return [u(values.length), values];
}

function size(bytes: Bytes): number {
  let total = 0;
  for (const part of bytes) {
    total += typeof part === "number" ? 1 : part instanceof Uint8Array ? part.length : size(part);
  }
  return total;
}

function write(bytes: Bytes, into: Uint8Array, at: number): number {
  for (const part of bytes) {
    if (typeof part === "number") into[at++] = part;
    else if (part instanceof Uint8Array) {
      into.set(part, at);
      at += part.length;
    } else at = write(part, into, at);
  }
  return at;
}
