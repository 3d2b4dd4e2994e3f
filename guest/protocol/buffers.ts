/**
 * Large buffers that are needed for a moment, shared by all who need one: what is idle holds none.
 *
 * @module
 */

import { WIDE_FRAME_BYTES_MAX } from "./limits.ts";

/** How many are kept for the next one who asks. */
const SPARE_MAX = 2;

const spare: Uint8Array[] = [];

/**
 * Takes a buffer. Its content is whatever was in it before.
 *
 * @param bytes How large it has to be; it may be larger.
 */
export function takeBuffer(bytes: number): Uint8Array {
  const index = spare.findIndex((one) => one.length >= bytes);
  const [found] = index < 0 ? [] : spare.splice(index, 1);
  return found ?? new Uint8Array(bytes);
}

/**
 * Gives a buffer back; nobody may use it afterwards.
 *
 * @param buffer As {@link takeBuffer} gave it.
 */
export function giveBuffer(buffer: Uint8Array): void {
  if (buffer.length > WIDE_FRAME_BYTES_MAX) return;
  if (spare.length < SPARE_MAX) {
    spare.push(buffer);
    return;
  }
  // The larger ones serve everybody.
  const index = spare.findIndex((one) => one.length < buffer.length);
  if (index >= 0) spare[index] = buffer;
}
