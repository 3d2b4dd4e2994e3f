/**
 * The file in which a snapshot says what it is, whatever its kind: `sandbox.json` in its directory. It
 * is written last, so that a directory without it is no snapshot.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";

/** The name of the file. */
export const SNAPSHOT_FILE = "sandbox.json";

/** Largest file that is read, in bytes. */
const BYTES_MAX = 1 << 20;

/**
 * Writes it.
 *
 * @param directory The snapshot's directory.
 * @param content What becomes JSON.
 * @throws {SandboxError} `ResourceExhausted` where the disk is full.
 */
export async function writeSnapshotFile(directory: string, content: object): Promise<void> {
  const path = `${directory}/${SNAPSHOT_FILE}`;
  const text = JSON.stringify(content, undefined, 2);
  try {
    await Deno.writeTextFile(path, `${text}\n`, { createNew: true, mode: 0o600 });
  } catch (error) {
    throw SandboxError.from(error, `cannot write "${path}"`);
  }
}

/**
 * Reads it.
 *
 * @param directory The snapshot's directory.
 * @param action What is being done, for errors.
 * @returns Its text.
 * @throws {SandboxError} `NotFound` where there is no snapshot; `FailedPrecondition` where the file is
 *   too large.
 */
export async function readSnapshotFile(directory: string, action: string): Promise<string> {
  const path = `${directory}/${SNAPSHOT_FILE}`;
  try {
    const { size } = await Deno.stat(path);
    if (size <= BYTES_MAX) return await Deno.readTextFile(path);
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: ${SNAPSHOT_FILE} has ${size} bytes, at most ${BYTES_MAX} are expected`,
    );
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw SandboxError.from(error, action);
    throw new SandboxError(
      "NotFound",
      `${action}: it has no ${SNAPSHOT_FILE}: it is none, or was never finished`,
      { cause: error },
    );
  }
}
