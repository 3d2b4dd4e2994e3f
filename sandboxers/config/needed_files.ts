/**
 * Looks for files that a configuration names, and says how to get those that are missing.
 *
 * @module
 */

/** A file that is needed. */
export interface NeededFile {
  /** The setting that names it. */
  readonly setting: string;
  /** The file. */
  readonly path: string;
  /** How to get it. */
  readonly advice: string;
}

/**
 * Tells which files are not there, a line each.
 *
 * @param needed The files.
 */
export async function missingFilesOf(needed: readonly NeededFile[]): Promise<string[]> {
  const missing: string[] = [];
  for (const { setting, path, advice } of needed) {
    const found = await whatIsAt(path);
    if (found !== undefined) missing.push(`${setting}: "${path}": ${found}: ${advice}`);
  }
  return missing;
}

/** What is wrong with a path; undefined where it is a file. */
async function whatIsAt(path: string): Promise<string | undefined> {
  try {
    return (await Deno.stat(path)).isFile ? undefined : "it is no file";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "no such file";
    if (error instanceof Deno.errors.NotADirectory) return "what is above it is no directory";
    return error instanceof Error ? error.message : String(error);
  }
}
