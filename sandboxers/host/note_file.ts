/**
 * Small files in which a sandboxer notes for the next one which processes are its own. They can be
 * written anew on a full disk too: who comes back then has to find what runs.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/**
 * Writes a note, readable by this user only. A reader finds the old text or the new one; only where
 * the disk is full the file is written over in place, which takes no room.
 *
 * @param path An absolute path.
 * @param text What it is to say, at most a few hundred bytes.
 * @throws {SandboxError} `ResourceExhausted` where the disk is full and no note was there before.
 */
export async function writeNoteFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.new`;
  try {
    await Deno.writeTextFile(temporary, text, { mode: 0o600 });
    await Deno.rename(temporary, path);
  } catch (thrown) {
    const error = SandboxError.from(thrown, `cannot write "${path}"`);
    await Deno.remove(temporary).catch(() => undefined);
    if (error.code !== "ResourceExhausted" || !await writeOver(path, text)) throw error;
  }
}

/** Whether there was a file to write over, and room in it. */
async function writeOver(path: string, text: string): Promise<boolean> {
  try {
    using file = await Deno.open(path, { write: true });
    const bytes = new TextEncoder().encode(text);
    if (await file.write(bytes) < bytes.length) return false;
    await file.truncate(bytes.length);
    return true;
  } catch {
    return false;
  }
}
