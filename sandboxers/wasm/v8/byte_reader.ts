/**
 * Reads the numbers of a module's binary form. V8 has validated the module before, so nothing here
 * meets a module that is cut in the middle.
 *
 * @module
 */

import { refusal } from "../module_bytes.ts";

/** Most bytes of one LEB128 number: 64 bits by seven. */
const LEB_BYTES_MAX = 10;

/** A place in a module. */
export class ByteReader {
  /**
   * Starts somewhere.
   *
   * @param bytes The module.
   * @param at The offset of the next byte.
   */
  constructor(readonly bytes: Uint8Array<ArrayBuffer>, public at: number) {}

  /** The next byte. */
  byte(): number {
    const byte = this.bytes[this.at++];
    if (byte === undefined) throw refusal("it ends in the middle of something");
    return byte;
  }

  /** An unsigned LEB128 number of at most 32 bits. */
  u32(): number {
    const first = this.byte();
    if (first < 0x80) return first;
    this.at--;
    return Number(this.u64());
  }

  /** An unsigned LEB128 number of at most 64 bits. */
  u64(): bigint {
    let value = 0n;
    for (let i = 0; i < LEB_BYTES_MAX; i++) {
      const byte = this.byte();
      value |= BigInt(byte & 0x7f) << BigInt(i * 7);
      if ((byte & 0x80) === 0) return value;
    }
    throw refusal("it holds a number that is too long");
  }

  /** Passes over LEB128 numbers, signed or not. */
  skipNumbers(count = 1): void {
    for (let left = count; left > 0; left--) {
      while ((this.byte() & 0x80) !== 0);
    }
  }

  /** Passes over bytes. */
  skip(count: number): void {
    this.at += count;
  }
}

/** An unsigned number as LEB128. */
export function encodeLeb(value: number | bigint): number[] {
  const bytes: number[] = [];
  let rest = BigInt(value);
  do {
    const byte = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest === 0n ? byte : byte | 0x80);
  } while (rest !== 0n);
  return bytes;
}
