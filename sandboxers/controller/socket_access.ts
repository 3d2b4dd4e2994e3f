/**
 * Who may use a sandboxer's socket: its own user and nobody else. Whoever can connect can do with the
 * sandboxes what they like, so this is checked and not taken for granted.
 *
 * @module
 */

import { dirname } from "node:path";
import { SandboxError } from "../lifecycle/errors.ts";
import type { Log } from "../log.ts";

/** Mode bits by which others than the owner may write. */
const WRITABLE_BY_GROUP = 0o020;
const WRITABLE_BY_ALL = 0o002;

/** The mode bit by which only owners may rename and remove what is in a directory. */
const STICKY = 0o1000;

/**
 * Looks at the directory that a socket is about to be made in: who may write to it can put a socket of
 * their own in its place, and be taken for the sandboxer.
 *
 * @param path The socket's path.
 * @param log Is told where a group may write.
 * @throws {SandboxError} `PermissionDenied` where everybody may.
 */
export async function checkDirectory(path: string, log: Log): Promise<void> {
  const directory = dirname(path);
  const mode = await modeOf(directory, log);
  if ((mode & STICKY) !== 0) return;
  if ((mode & WRITABLE_BY_ALL) !== 0) {
    throw new SandboxError(
      "PermissionDenied",
      `cannot listen at "${path}": everybody may write to "${directory}" and could replace the ` +
        `socket; take that right away: chmod o-w ${directory}`,
    );
  }
  if ((mode & WRITABLE_BY_GROUP) !== 0) {
    log.warn("a group may write to the socket's directory and could replace the socket", {
      directory,
    });
  }
}

/** A directory's mode; 0 where this process may not look at it. */
async function modeOf(directory: string, log: Log): Promise<number> {
  try {
    return (await Deno.stat(directory)).mode ?? 0;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    log.debug("cannot see who may write to the socket's directory", { directory, error });
    return 0;
  }
}
