/**
 * Reads files of a root file system as a program in it would: links lead to where they lead from its
 * root, and never out of it.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** Most links on the way to a file; as Linux has it. */
const LINKS_MAX = 40;
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
  const parts = (text: string) => text.split("/").filter((part) => part !== "" && part !== ".");
  const left = parts(path);
  const at: string[] = [];
  let links = 0;
  for (let part = left.shift(); part !== undefined; part = left.shift()) {
    if (part === "..") {
      at.pop();
      continue;
    }
    at.push(part);
    const here = `${rootfs}/${at.join("/")}`;
    try {
      const { isSymlink } = await Deno.lstat(here);
      if (!isSymlink) continue;
      if (++links > LINKS_MAX) return undefined;
      const target = await Deno.readLink(here);
      at.pop();
      if (target.startsWith("/")) at.length = 0;
      left.unshift(...parts(target));
    } catch (error) {
      const isMissing = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.NotADirectory;
      if (isMissing) return undefined;
      throw SandboxError.from(error, `cannot look at "${here}"`);
    }
  }
  return `${rootfs}/${at.join("/")}`;
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
