/**
 * Asks how much room a file system has.
 *
 * @module
 */

import { statfs } from "node:fs/promises";

/**
 * How much room there is in a directory for this user.
 *
 * @param directory An existing directory.
 * @returns In bytes; undefined where this process may not ask (it takes `--allow-sys=statfs`).
 */
export async function freeBytes(directory: string): Promise<number | undefined> {
  try {
    const { bavail, bsize } = await statfs(directory);
    return bavail * bsize;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return undefined;
    throw error;
  }
}
