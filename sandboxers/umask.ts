/**
 * The mask of file permissions of this process (umask(2)). A unix socket is there before its mode can
 * be set, and whoever may write to it may connect: so nobody else may write to what is made, from the
 * beginning.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";
import { removeIfThere } from "./removal.ts";

/** Mode bits by which others than the owner may write. */
const OTHERS_WRITE = 0o022;

/** Deno changes the mask for who may ask for all facts of the system only: there is no finer right. */
const RIGHT = "--allow-sys";

/**
 * Has everything that this process and its children make be writable by its owner only, unless it is
 * opened to others on purpose. What the mask takes away already stays away. Where this process may not
 * change its mask, that has to be so already.
 *
 * @param directory Where that is tried.
 * @throws {SandboxError} `FailedPrecondition` where others may write.
 */
export async function keepOthersFromWriting(directory: string): Promise<void> {
  try {
    // The mask is never read alone: that would open it for a moment, to other threads too.
    const before = Deno.umask(OTHERS_WRITE);
    if ((before & ~OTHERS_WRITE) !== 0) Deno.umask(before | OTHERS_WRITE);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
  }
  const mode = await modeOfNewFile(directory);
  if ((mode & OTHERS_WRITE) === 0) return;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot keep others from the sockets: they may write to every file that this process makes ` +
      `(mode ${
        mode.toString(8)
      }): start it with the umask 022, or give it the right to change that ` +
      `(${RIGHT})`,
  );
}

/** The mode that a file has which is made for everybody. */
async function modeOfNewFile(directory: string): Promise<number> {
  const path = `${directory}/umask`;
  await removeIfThere(path);
  try {
    using file = await Deno.open(path, { write: true, createNew: true, mode: 0o666 });
    return ((await file.stat()).mode ?? 0) & 0o777;
  } finally {
    await removeIfThere(path);
  }
}
