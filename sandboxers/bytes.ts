/**
 * Bytes in memory.
 *
 * @module
 */

/**
 * Puts arrays of bytes behind one another.
 *
 * @param parts The arrays.
 * @returns A new array, also of a single one.
 */
export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
