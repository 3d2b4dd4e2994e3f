/**
 * Memory on the C heap for arguments that have to hold addresses, and copies out of memory that the
 * engine owns. JavaScript buffers are handed to C for the length of one call only.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { type Address, openLibrary } from "./library.ts";

const MEMORY_SYMBOLS = {
  malloc: { parameters: ["usize"], result: "u64" },
  free: { parameters: ["u64"], result: "void" },
  copyIn: { name: "memcpy", parameters: ["u64", "buffer", "usize"], result: "u64" },
  copyOut: { name: "memcpy", parameters: ["buffer", "u64", "usize"], result: "u64" },
  trimAsync: { name: "malloc_trim", parameters: ["usize"], result: "i32", nonblocking: true },
  strnlen: { parameters: ["u64", "usize"], result: "usize" },
} as const;

/** Longest text that is read from the engine, in bytes. */
const TEXT_BYTES_MAX = 65_536;

/** C arrays of C strings inside a {@link StringArrays}: an address and a count each. */
export interface StringArray {
  /** Address of `const char *[count]`. */
  readonly address: Address;
  /** How many strings. */
  readonly count: number;
}

/** Reads and writes memory outside of JavaScript. */
export class Memory {
  readonly #c: Deno.DynamicLibrary<typeof MEMORY_SYMBOLS>["symbols"];
  readonly #encoder = new TextEncoder();
  readonly #decoder = new TextDecoder();

  /**
   * Binds the functions.
   *
   * @param libraryPath See {@link openLibrary}.
   */
  constructor(libraryPath: string) {
    this.#c = openLibrary(libraryPath, MEMORY_SYMBOLS);
  }

  /**
   * Copies bytes out of foreign memory.
   *
   * @param address Start of at least `length` readable bytes.
   */
  read(address: Address, length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length);
    // SAFETY: the caller vouches for `length` bytes at `address`; `bytes` has room for them.
    if (length > 0) this.#c.copyOut(bytes, address, BigInt(length));
    return bytes;
  }

  /** The text of a NUL-terminated C string, cut at 64 KiB; empty for NULL. */
  readCString(address: Address): string {
    if (address === 0n) return "";
    // SAFETY: a C string ends with a NUL; strnlen stops there or at the bound.
    const length = this.#c.strnlen(address, BigInt(TEXT_BYTES_MAX));
    return this.#decoder.decode(this.read(address, Number(length)));
  }

  /** The text of `length` bytes at an address, cut at 64 KiB. */
  readText(address: Address, length: number): string {
    return this.#decoder.decode(this.read(address, Math.min(length, TEXT_BYTES_MAX)));
  }

  /**
   * Puts lists of strings on the C heap as arrays of C strings.
   *
   * @param lists Strings without NUL characters.
   * @returns One array for each list; valid until disposed.
   * @throws {SandboxError} `InvalidArgument` for a NUL; `ResourceExhausted` without memory.
   */
  stringArrays(...lists: readonly (readonly string[])[]): Disposable & {
    readonly arrays: readonly StringArray[];
  } {
    const pointersBytes = 8 * lists.reduce((sum, list) => sum + list.length, 0);
    const text = this.#encoder.encode(lists.flat().map((string) => `${string}\0`).join(""));
    const block = new Uint8Array(pointersBytes + text.length);
    block.set(text, pointersBytes);
    const base = this.#allocate(Math.max(block.length, 1));
    const view = new DataView(block.buffer);
    const arrays: StringArray[] = [];
    let pointer = 0;
    let start = pointersBytes;
    for (const list of lists) {
      arrays.push({ address: base + BigInt(pointer), count: list.length });
      for (const _ of list) {
        view.setBigUint64(pointer, base + BigInt(start), true);
        pointer += 8;
        start = block.indexOf(0, start) + 1;
      }
    }
    if (start !== block.length) {
      this.#c.free(base);
      throw new SandboxError("InvalidArgument", "cannot pass a string that holds a NUL character");
    }
    // SAFETY: `base` was allocated with block.length bytes.
    this.#c.copyIn(base, block, BigInt(block.length));
    return { arrays, [Symbol.dispose]: () => this.#c.free(base) };
  }

  /** Gives memory that nobody uses back to the system; on another thread, as it takes a while. */
  async trim(): Promise<void> {
    await this.#c.trimAsync(0n);
  }

  #allocate(length: number): Address {
    const address = this.#c.malloc(BigInt(length));
    if (address === 0n) {
      throw new SandboxError("ResourceExhausted", `cannot allocate ${length} bytes of memory`);
    }
    return address;
  }
}
