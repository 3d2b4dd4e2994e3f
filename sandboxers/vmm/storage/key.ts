/**
 * Keys of what is kept: hashes of all that it was made from.
 *
 * @module
 */

import { createHash } from "node:crypto";

/**
 * The hash of some values: 64 hexadecimal digits.
 *
 * @param values Plain JSON.
 */
export function hashOf(values: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(values)).digest("hex");
}
