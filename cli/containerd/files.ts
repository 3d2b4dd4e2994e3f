/**
 * Writes files so that nobody ever sees half of one.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** Who may do what with a file, and whose it is. */
export interface Rights {
  /** The mode bits. */
  readonly mode: number;
  /** The owner; undefined to leave it at who writes. */
  readonly uid?: number;
  /** The group. */
  readonly gid?: number;
}

/**
 * Replaces a file or makes it: all of it or nothing, and on the disk when this returns.
 *
 * @param path The file.
 * @param content What it holds.
 * @param rights Who may do what with it.
 * @throws {SandboxError} `PermissionDenied` and others, naming the file.
 */
export async function writeAtomically(
  path: string,
  content: string | Uint8Array,
  rights: Rights,
): Promise<void> {
  // A name that no pattern of configuration files fits.
  const temporary = `${path}.${Deno.pid}.quasaur-new`;
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  try {
    {
      using file = await Deno.open(temporary, {
        write: true,
        createNew: true,
        mode: rights.mode & 0o777,
      });
      let written = 0;
      while (written < bytes.length) written += await file.write(bytes.subarray(written));
      await Deno.chmod(temporary, rights.mode & 0o7777);
      if (rights.uid !== undefined) await Deno.chown(temporary, rights.uid, rights.gid ?? null);
      await file.sync();
    }
    await Deno.rename(temporary, path);
    await syncDirectory(path.slice(0, path.lastIndexOf("/")) || "/");
  } catch (error) {
    await Deno.remove(temporary).catch(() => undefined);
    throw cannotWrite(path, error);
  }
}

/** Makes the names in a directory last. */
async function syncDirectory(path: string): Promise<void> {
  using directory = await Deno.open(path);
  await directory.sync();
}

/**
 * An error for a file that could not be written, with advice where rights are missing.
 *
 * @param path The file.
 * @param error What was thrown.
 */
export function cannotWrite(path: string, error: unknown): SandboxError {
  if (error instanceof SandboxError) return error;
  if (error instanceof Deno.errors.PermissionDenied) {
    return new SandboxError(
      "PermissionDenied",
      `cannot write ${path}: permission denied: run this as root`,
      { cause: error },
    );
  }
  return SandboxError.from(error, `cannot write ${path}`);
}

/** The SHA-256 of a text or of bytes, in hexadecimal. */
export async function sha256(content: string | Uint8Array<ArrayBuffer>): Promise<string> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
