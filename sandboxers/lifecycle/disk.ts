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

/**
 * The real disk. What only touches the page cache is done at once: a record is a few kilobytes, and
 * the way to another thread and back costs ten times the call itself. Only what waits for the device
 * (fsync) is left to another thread, so that a slow disk does not hold the event loop up.
 */
export const realDisk: Disk = {
  makeDirectory: (path) => atOnce(() => Deno.mkdirSync(path, { recursive: true, mode: 0o700 })),
  list: (path) => atOnce(() => [...Deno.readDirSync(path)].map(({ name }) => name)),
  read: (path) => atOnce(() => orIfMissing(() => Deno.readTextFileSync(path))),
  async writeSynced(path, text) {
    using file = writeFile(path, new TextEncoder().encode(text));
    await file.sync();
  },
  rename: (from, to) => atOnce(() => Deno.renameSync(from, to)),
  remove: (path) => atOnce(() => orIfMissing(() => Deno.removeSync(path, { recursive: true }))),
  async sync(directory) {
    using file = await atOnce(() => Deno.openSync(directory, { read: true }));
    await file.sync();
  },
};

/** Runs a call; what it throws becomes a rejection. */
function atOnce<T>(call: () => T): Promise<T> {
  return new Promise((resolve) => resolve(call()));
}

function orIfMissing<T>(call: () => T): T | undefined {
  try {
    return call();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function writeFile(path: string, bytes: Uint8Array): Deno.FsFile {
  using opened = new DisposableStack();
  const options = { write: true, create: true, truncate: true, mode: 0o600 };
  const file = opened.use(Deno.openSync(path, options));
  let written = 0;
  while (written < bytes.length) written += file.writeSync(bytes.subarray(written));
  opened.move();
  return file;
}
