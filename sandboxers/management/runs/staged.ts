/**
 * Root file systems that clients have put into the staging directory: they are taken over by moving
 * them to where a sandbox has its things, and so nobody else has them any more.
 *
 * @module
 */

import { dirname } from "node:path";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { RunPlaces } from "./places.ts";

/**
 * Takes one over.
 *
 * @param places Where things lie.
 * @param path What the client said.
 * @param to Where it goes: an absolute path where nothing is.
 * @throws {SandboxError} `InvalidArgument` for a path outside of the staging directory, or that is no
 *   directory; `NotFound`.
 */
export async function takeStaged(places: RunPlaces, path: string, to: string): Promise<void> {
  const { staging } = places;
  const plain = path.replace(/\/+$/, "");
  const refuse = (found: string): SandboxError =>
    new SandboxError(
      "InvalidArgument",
      `cannot take over "${path}": ${found}: expected a directory in "${staging}"`,
    );
  if (dirname(plain) !== staging) throw refuse("it is elsewhere");
  try {
    // A link would lead to somebody else's files: this looks at the entry itself, as rename(2) does.
    const { isDirectory, isSymlink } = await Deno.lstat(plain);
    if (!isDirectory || isSymlink) throw refuse("it is no directory");
    await Deno.rename(plain, to);
    if (!(await Deno.lstat(to)).isDirectory) throw refuse("it is no directory");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new SandboxError("NotFound", `cannot take over "${path}": it is not there`, {
        cause: error,
      });
    }
    throw SandboxError.from(error, `cannot take over "${path}"`);
  }
}
