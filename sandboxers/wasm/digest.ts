/**
 * Names modules by their content.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** Files larger than this are hashed on another thread. */
const HASH_INLINE_BYTES_MAX = 1_048_576;

/** SHA-256 of bytes, in hexadecimal. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (bytes.length <= HASH_INLINE_BYTES_MAX) return sha256Now(bytes);
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return new Uint8Array(digest).toHex();
}

/** SHA-256 of a few bytes, in hexadecimal. */
export function sha256Now(bytes: Uint8Array<ArrayBuffer>): string {
  return createHash("sha256").update(bytes).digest("hex");
}
