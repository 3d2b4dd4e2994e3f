/**
 * Walks directories.
 *
 * @module
 */

/** Most directories inside each other. */
const DEPTH_MAX = 32;

/** A file. */
export interface FoundFile {
  /** Its path, with that of the directory that was asked for in front. */
  readonly path: string;
  /** The last part of its path. */
  readonly name: string;
  /** Whether it is a symbolic link. */
  readonly isLink: boolean;
}

/**
 * All files and links of a directory and of those in it, in the order of their paths.
 *
 * @param directory Its path.
 * @param depth How many directories deep the caller is already.
 */
export async function* filesBelow(
  directory: string,
  depth: number = 0,
): AsyncGenerator<FoundFile, void, unknown> {
  if (depth > DEPTH_MAX) return;
  const entries = await Array.fromAsync(Deno.readDir(directory));
  entries.sort((a, b) => a.name < b.name ? -1 : 1);
  for (const { name, isDirectory, isSymlink } of entries) {
    const path = `${directory}/${name}`;
    if (isDirectory) yield* filesBelow(path, depth + 1);
    else yield { path, name, isLink: isSymlink };
  }
}
