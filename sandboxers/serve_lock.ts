/**
 * One sandboxer per state directory: two would adopt and clean up each other's sandboxes.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";

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
    if (await file.tryLock(true)) return file;
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
