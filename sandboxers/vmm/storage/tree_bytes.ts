/**
 * About how much room a file tree needs; for messages.
 *
 * @module
 */

/** Files and directories that are looked at. */
const ENTRIES_MAX = 20_000;

/**
 * Adds up the sizes of the regular files below a directory, each file as one however many names it
 * has; of a very large tree only of a part.
 *
 * @param directory Links in it are not followed.
 */
export async function treeBytes(directory: string): Promise<number> {
  const left = [directory];
  const seen = new Set<number>();
  let bytes = 0;
  for (let entries = 0; left.length > 0;) {
    const parent = left.pop() ?? directory;
    for await (const { name, isDirectory, isFile } of Deno.readDir(parent)) {
      if (++entries > ENTRIES_MAX) return bytes;
      const path = `${parent}/${name}`;
      if (isDirectory) left.push(path);
      if (!isFile) continue;
      const { size, ino } = await Deno.lstat(path);
      if (ino !== null && seen.has(ino)) continue;
      if (ino !== null) seen.add(ino);
      bytes += size;
    }
  }
  return bytes;
}
