/**
 * Gives a file that nobody writes to a second name: a hard link, or a copy where that is on another
 * file system. Images are much larger than what is in them, so that holes must stay holes.
 *
 * @module
 */

import { abortError, SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";

/** The program that copies: coreutils' leaves holes out. */
const CP = "/usr/bin/cp";
/** The mode of what is copied: only read, by its owner and the group of VMMs. */
const COPY_MODE = 0o440;

/**
 * Gives a file a second name.
 *
 * @param from The file.
 * @param to The new name, where nothing is yet.
 * @param signal Gives up.
 * @throws {SandboxError} `NotFound` where the file is not there; `ResourceExhausted` where the disk is
 *   full; `Cancelled`. Nothing is left then.
 */
export async function linkOrCopy(from: string, to: string, signal: AbortSignal): Promise<void> {
  try {
    await Deno.link(from, to);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.AlreadyExists) {
      throw SandboxError.from(error, `cannot link "${from}" to "${to}"`);
    }
    // Another file system, or a file of somebody else.
    await copyFile(from, to, signal);
  }
}

/**
 * Copies a file without its holes.
 *
 * @param from The file.
 * @param to Where to; nothing is there yet.
 * @param signal Gives up.
 * @throws {SandboxError} See {@link linkOrCopy}.
 */
export async function copyFile(from: string, to: string, signal: AbortSignal): Promise<void> {
  const action = `cannot copy "${from}" to "${to}"`;
  throwIfAborted(signal, action);
  try {
    const { success, stderr } = await new Deno.Command(CP, {
      args: ["--sparse=always", "--reflink=auto", "--", from, to],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      env: { LC_ALL: "C" },
      clearEnv: true,
      signal,
    }).output();
    if (signal.aborted) throw abortError(signal, action);
    if (!success) throw failure(new TextDecoder().decode(stderr).trim());
    await Deno.chmod(to, COPY_MODE);
  } catch (error) {
    await Deno.remove(to).catch(() => {});
    throw SandboxError.from(error, action);
  }
}

function failure(said: string): SandboxError {
  const isFull = /No space left|Disk quota/.test(said);
  return new SandboxError(isFull ? "ResourceExhausted" : "Internal", said.slice(-500));
}
