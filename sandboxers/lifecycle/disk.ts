/**
 * The few file operations that the store is built on, so that the simulation can put a faulty disk
 * below it.
 *
 * @module
 */

/** A disk. Every call is durable in the sense of its name only: see {@link Disk.sync}. */
export interface Disk {
  /** Creates a directory and those above it, mode 0700. */
  makeDirectory(path: string): Promise<void>;
  /** Names in a directory. */
  list(path: string): Promise<string[]>;
  /** A file's text, or undefined where there is none. */
  read(path: string): Promise<string | undefined>;
  /** Writes a file, mode 0600, and its bytes to stable storage. */
  writeSynced(path: string, text: string): Promise<void>;
  /** Renames a file over another. */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a directory with all in it; succeeds where nothing is. */
  remove(path: string): Promise<void>;
  /** Brings a directory's entries to stable storage. */
  sync(directory: string): Promise<void>;
}

/** The real disk. */
export const realDisk: Disk = {
  makeDirectory: (path) => Deno.mkdir(path, { recursive: true, mode: 0o700 }),
  async list(path) {
    const names: string[] = [];
    for await (const entry of Deno.readDir(path)) names.push(entry.name);
    return names;
  },
  async read(path) {
    try {
      return await Deno.readTextFile(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  },
  async writeSynced(path, text) {
    using file = await Deno.open(path, { write: true, create: true, truncate: true, mode: 0o600 });
    const bytes = new TextEncoder().encode(text);
    let written = 0;
    while (written < bytes.length) written += await file.write(bytes.subarray(written));
    await file.sync();
  },
  rename: (from, to) => Deno.rename(from, to),
  async remove(path) {
    try {
      await Deno.remove(path, { recursive: true });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  },
  async sync(directory) {
    using file = await Deno.open(directory, { read: true });
    await file.sync();
  },
};
