/**
 * Files in directories that a VMM may write to. A VMM that a guest has taken over could put a link
 * there that leads elsewhere on the host; nothing here follows one.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** Which file it is, whatever its path leads to later. */
export interface FileIdentity {
  /** The device that it is on. */
  readonly device: number;
  /** Its number there. */
  readonly inode: number;
}

/**
 * Opens a regular file for reading.
 *
 * @param path Where it is.
 * @param expected Which file it has to be; any regular one unless given.
 * @throws {SandboxError} `FailedPrecondition` where it is a link or another file.
 */
export async function openOwnFile(path: string, expected?: FileIdentity): Promise<Deno.FsFile> {
  const seen = await Deno.lstat(path);
  if (!seen.isFile) throw foreign(path);
  const file = await Deno.open(path);
  try {
    const found = identityOf(await file.stat());
    if (!same(found, identityOf(seen))) throw foreign(path);
    if (expected !== undefined && !same(found, expected)) throw foreign(path);
    return file;
  } catch (thrown) {
    file.close();
    throw thrown;
  }
}

/** Which file something is about. */
export function identityOf(info: Deno.FileInfo): FileIdentity {
  return { device: info.dev, inode: info.ino ?? 0 };
}

/**
 * The end of a log, made fit for a message.
 *
 * @param path The log.
 * @param charactersMax How much of it at most.
 * @returns Empty where there is none.
 */
export async function logTail(path: string, charactersMax = 1000): Promise<string> {
  try {
    using file = await openOwnFile(path);
    const { size } = await file.stat();
    await file.seek(Math.max(0, size - 4 * charactersMax), Deno.SeekMode.Start);
    const buffer = new Uint8Array(4 * charactersMax);
    let length = 0;
    for (let read: number | null = 0; read !== null && length < buffer.length; length += read) {
      read = await file.read(buffer.subarray(length));
      if (read === null || read === 0) break;
    }
    return plain(new TextDecoder().decode(buffer.subarray(0, length))).slice(-charactersMax);
  } catch {
    return "";
  }
}

/** Removes a file; does nothing where there is none. */
export async function removeFile(path: string): Promise<void> {
  await Deno.remove(path).catch((thrown) => {
    if (!(thrown instanceof Deno.errors.NotFound)) throw thrown;
  });
}

/** One line, without what could steer a terminal. */
function plain(text: string): string {
  // deno-lint-ignore no-control-regex -- they are what has to go
  return text.trim().replaceAll(/\s*\n\s*/g, "; ").replaceAll(/[\x00-\x1f\x7f-\x9f\ufffd]/g, "");
}

function same(a: FileIdentity, b: FileIdentity): boolean {
  return a.device === b.device && a.inode === b.inode;
}

function foreign(path: string): SandboxError {
  return new SandboxError(
    "FailedPrecondition",
    `cannot open "${path}": it is not the file that was made there`,
  );
}
