/**
 * Takes files and directories away that may be gone already.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";

/**
 * Removes a file or an empty directory; does nothing where it is not there.
 *
 * @param path Where it is.
 * @param options See `Deno.remove`.
 * @throws {SandboxError} Where it cannot be removed.
 */
export async function removeIfThere(path: string, options?: Deno.RemoveOptions): Promise<void> {
  try {
    await Deno.remove(path, options);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw SandboxError.from(error, `cannot remove "${path}"`);
  }
}

/**
 * Removes a directory with all in it; does nothing where it is not there.
 *
 * @param path Where it is.
 * @throws {SandboxError} Where it cannot be removed.
 */
export async function removeTree(path: string): Promise<void> {
  await removeIfThere(path, { recursive: true });
}
