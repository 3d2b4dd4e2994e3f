/**
 * Reads files of a root file system as a program in it would: links lead to where they lead from its
 * root, and never out of it.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { walkLinks } from "./links.ts";

/** Largest file that is read, in bytes. */
const BYTES_MAX = 4 * 2 ** 20;

/**
 * Where a path of a root file system leads to on the host.
 *
 * @param rootfs The directory.
 * @param path The path in it.
 * @returns Undefined where nothing is there, or links lead around in circles.
 */
export async function resolveInside(rootfs: string, path: string): Promise<string | undefined> {
  const walk = walkLinks(path);
  let step = walk.next();
  while (!step.done) {
    const here = `${rootfs}/${step.value}`;
    try {
      const { isSymlink } = await Deno.lstat(here);
      step = walk.next(isSymlink ? await Deno.readLink(here) : undefined);
    } catch (error) {
      const isMissing = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.NotADirectory;
      if (isMissing) return undefined;
      throw SandboxError.from(error, `cannot look at "${here}"`);
    }
  }
  return step.value === undefined ? undefined : `${rootfs}/${step.value}`;
}

/**
 * Reads a text file.
 *
 * @param rootfs The directory.
 * @param path The path in it.
 * @returns Empty where nothing is there, or something else than a file of moderate size.
 */
export async function readTextInside(rootfs: string, path: string): Promise<string> {
  const found = await resolveInside(rootfs, path);
  if (found === undefined) return "";
  try {
    const { isFile, size } = await Deno.lstat(found);
    return isFile && size <= BYTES_MAX ? await Deno.readTextFile(found) : "";
  } catch (error) {
    throw SandboxError.from(error, `cannot read "${found}"`);
  }
}
