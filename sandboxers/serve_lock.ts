/**
 * One sandboxer per state directory: two would adopt and clean up each other's sandboxes.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";

/**
 * How long a lock, or a socket, may outlive its process, in milliseconds: a process that is killed
 * while it starts another one leaves a copy of itself for a moment, with all that it held.
 */
export const HELD_MS = 1_000;
/** How often it is tried, in milliseconds. */
export const TRY_MS = 20;

/**
 * Takes a state directory for this process, making it (mode 0700) where it is missing. The lock goes
 * when it is disposed of or the process ends, however it ends.
 *
 * @param dir The directory, an absolute path.
 * @throws SandboxError `AlreadyExists` when another process has it.
 */
export async function lockDirectory(dir: string): Promise<Disposable> {
  try {
    await Deno.mkdir(dir, { recursive: true, mode: 0o700 });
    const file = await Deno.open(`${dir}/lock`, { write: true, create: true, mode: 0o600 });
    const end = performance.now() + HELD_MS;
    do {
      if (await file.tryLock(true)) return file;
      await new Promise((resolve) => setTimeout(resolve, TRY_MS));
    } while (performance.now() < end);
    file.close();
  } catch (error) {
    throw SandboxError.from(error, `cannot use the state directory "${dir}"`);
  }
  throw new SandboxError(
    "AlreadyExists",
    `cannot use the state directory "${dir}": another sandboxer is using it; stop that one or ` +
      "choose another with --dir",
  );
}
