/**
 * Whether a VMM that runs as a user of its own gets to a snapshot: it writes the machine there, and
 * reads it later.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { MachinePlace } from "../hypervisor.ts";

/** The bit of others to pass through a directory. */
const OTHERS_PASS = 0o001;
/** The bit of others to read. */
const OTHERS_READ = 0o004;
/** How far to the left of the bits of others those of the group are. */
const GROUP_SHIFT = 3;

/**
 * Looks at the directories above a snapshot, as far as the permissions of this process let it: what is
 * above a sandboxer's own directories it cannot see.
 *
 * @param directory That of the snapshot.
 * @param user The VMM's user; undefined where it is this process's own.
 * @throws {SandboxError} `PermissionDenied` where it cannot pass, with what to do; `NotFound`.
 */
export async function checkReachable(
  directory: string,
  user: MachinePlace["user"],
): Promise<void> {
  if (user === undefined) return;
  for (let above = parentOf(directory);; above = parentOf(above)) {
    const mode = await modeOf(above);
    if (mode === undefined) return;
    if ((mode & OTHERS_PASS) === 0) {
      throw new SandboxError(
        "PermissionDenied",
        `machines run as other users, who cannot pass through "${above}": chmod o+x it, choose ` +
          `another directory, or set hypervisor.run_as to "root"`,
      );
    }
    if (above === "/") return;
  }
}

/**
 * Looks whether a snapshot can be read, which somebody may have copied.
 *
 * @param directory That of the snapshot.
 * @param user The VMM's user; undefined where it is this process's own.
 * @throws {SandboxError} `PermissionDenied` where it cannot, with what to do.
 */
export async function checkReadable(
  directory: string,
  user: MachinePlace["user"],
): Promise<void> {
  if (user === undefined) return;
  await checkReachable(directory, user);
  const needed = [[directory, OTHERS_PASS], [`${directory}/state`, OTHERS_READ]] as const;
  for (const [path, others] of needed) {
    const { mode, gid } = await Deno.stat(path);
    const bits = gid === user.gid ? others | others << GROUP_SHIFT : others;
    if (((mode ?? 0) & bits) !== 0) continue;
    throw new SandboxError(
      "PermissionDenied",
      `machines run as other users, who cannot read "${path}": chgrp it to ${user.gid}, which ` +
        `"cp -a" would have kept`,
    );
  }
}

/** The mode of a directory; undefined where it is not for this process to know. */
async function modeOf(path: string): Promise<number | undefined> {
  try {
    return (await Deno.stat(path)).mode ?? 0;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return undefined;
    throw error;
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
