/**
 * Reads the kernel's list of mounts and takes leftover mounts away.
 *
 * @module
 */

import { run } from "./command.ts";

/** One mount of this process's mount namespace. Source: proc(5), /proc/pid/mountinfo. */
export interface MountEntry {
  /** Where it is mounted. */
  readonly target: string;
  /** The file system's type, such as `ext4` or `overlay`. */
  readonly type: string;
}

/** All mounts, in the order in which they were made. */
export async function mountTable(): Promise<MountEntry[]> {
  const text = await Deno.readTextFile("/proc/self/mountinfo");
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const [left = "", right = ""] = line.split(" - ");
    return {
      target: unescape(left.split(" ")[4] ?? ""),
      type: right.split(" ")[0] ?? "",
    };
  });
}

/**
 * The mounts at or below a directory.
 *
 * @param directory An absolute path without links.
 */
export async function mountsBelow(directory: string): Promise<MountEntry[]> {
  const all = await mountTable();
  return all.filter(({ target }) => target === directory || target.startsWith(`${directory}/`));
}

/**
 * Unmounts everything at or below a directory, the newest first.
 *
 * @param directory An absolute path without links.
 */
export async function unmountBelow(directory: string): Promise<void> {
  for (const { target } of (await mountsBelow(directory)).reverse()) {
    await run(["umount", "-l", target], { check: false });
  }
}

/**
 * The type of the file system that holds a path.
 *
 * @param path An absolute path without links.
 */
export async function fileSystemType(path: string): Promise<string> {
  const holds = ({ target }: MountEntry) =>
    target === "/" || path === target || path.startsWith(`${target}/`);
  // Of two mounts at one place the later one is seen.
  const [best] = (await mountTable()).filter(holds).reverse()
    .sort((a, b) => b.target.length - a.target.length);
  return best?.type ?? "";
}

/** Mountinfo writes blanks as octal escapes. */
function unescape(text: string): string {
  return text.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}
