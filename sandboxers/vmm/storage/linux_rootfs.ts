/**
 * Whether a directory can be the root of a Linux container at all. Which program is missing in it is
 * for the guest to say.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** Names at the top of a layer of a Windows image. */
const WINDOWS_NAMES = ["Files", "Hives", "UtilityVM"];
/** Most names that are looked at. */
const NAMES_MAX = 1_000;

/**
 * Looks at the top of a root file system.
 *
 * @param path The directory.
 * @throws {SandboxError} `InvalidArgument` where it is missing, empty, no directory or that of another system;
 *   `PermissionDenied`.
 */
export async function checkLinuxRootfs(path: string): Promise<void> {
  const action = `cannot use "${path}" as a root file system`;
  const names = new Set<string>();
  try {
    for await (const { name } of Deno.readDir(path)) {
      names.add(name);
      if (names.size === NAMES_MAX) break;
    }
  } catch (error) {
    const problem = error instanceof Deno.errors.NotADirectory
      ? "it is no directory"
      : error instanceof Deno.errors.NotFound
      ? "there is nothing"
      : undefined;
    if (problem === undefined) throw SandboxError.from(error, action);
    throw new SandboxError("InvalidArgument", `${action}: ${problem}`, { cause: error });
  }
  if (names.size === 0) {
    throw new SandboxError(
      "InvalidArgument",
      `${action}: it is empty: expected the files of a Linux image`,
    );
  }
  if (WINDOWS_NAMES.filter((name) => names.has(name)).length >= 2) {
    throw new SandboxError(
      "InvalidArgument",
      `${action}: it is that of a Windows image: expected one for Linux`,
    );
  }
}
