/**
 * Small helpers around the file calls of `sys` that throw: what the kernel refuses becomes an error
 * that names the file.
 *
 * @module
 */

import { EBUSY, EEXIST, EINVAL, ENOENT, must, systemError } from "./errno.ts";
import { MNT_DETACH, S_IFDIR, S_IFMT, UMOUNT_NOFOLLOW } from "./linux.ts";
import * as sys from "./sys.js";

/**
 * Reads a text file; also of /proc, /sys and cgroups.
 *
 * @throws AgentError Where it cannot be read.
 */
export function readText(path: string): string {
  const text = sys.readFile(path);
  if (typeof text === "number") throw systemError(`cannot read "${path}"`, text);
  return text;
}

/** Reads a text file; undefined where it is missing or cannot be read. */
export function tryReadText(path: string): string | undefined {
  const text = sys.readFile(path);
  return typeof text === "number" ? undefined : text;
}

/**
 * Writes a text file with one call.
 *
 * @throws AgentError Where it cannot be written.
 */
export function writeText(path: string, text: string, mode = 0o644): void {
  must(`cannot write "${path}"`, sys.writeFile(path, text, undefined, mode));
}

/**
 * Makes a directory with all above it.
 *
 * @throws AgentError Where it cannot be made.
 */
export function makeDirectory(path: string, mode = 0o755): void {
  must(`cannot make the directory "${path}"`, sys.mkdirAll(path, mode));
}

/** Names in a directory; none where it is missing. */
export function listDirectory(path: string): string[] {
  const names = sys.readdir(path);
  return typeof names === "number" ? [] : names;
}

/** Whether a path is a directory; links are followed. */
export function isDirectory(path: string): boolean {
  const stat = sys.stat(path);
  return typeof stat !== "number" && (stat.mode & S_IFMT) === S_IFDIR;
}

/**
 * Mounts a file system; the directory is made where it is missing.
 *
 * @throws AgentError Where the kernel refuses.
 */
export function mountAt(
  source: string,
  target: string,
  type: string | null,
  flags: number,
  options: string | null,
): void {
  makeDirectory(target);
  const what = type === null ? `"${source}"` : `${type} "${source}"`;
  must(`cannot mount ${what} at "${target}"`, sys.mount(source, target, type, flags, options));
}

/**
 * Unmounts. Nothing that is mounted there is fine; what is busy goes as soon as nobody uses it.
 *
 * @returns What was out of the ordinary, for the log; undefined for nothing.
 */
export function unmountAt(target: string): string | undefined {
  const errno = -sys.umount(target, UMOUNT_NOFOLLOW);
  if (errno <= 0 || errno === EINVAL || errno === ENOENT) return undefined;
  if (errno !== EBUSY) return systemError(`cannot unmount "${target}"`, errno).message;
  const lazyErrno = -sys.umount(target, UMOUNT_NOFOLLOW | MNT_DETACH);
  if (lazyErrno > 0) return systemError(`cannot unmount "${target}"`, lazyErrno).message;
  return `"${target}" is still in use: it is unmounted as soon as nobody uses it`;
}

/**
 * Removes a tree.
 *
 * @returns What went wrong, for the log; undefined for nothing.
 */
export function removeTree(path: string): string | undefined {
  const errno = -sys.removeAll(path);
  if (errno <= 0 || errno === ENOENT) return undefined;
  return systemError(`cannot remove "${path}"`, errno).message;
}

/**
 * Makes a symbolic link; one that is there already is fine.
 *
 * @throws AgentError Where it cannot be made.
 */
export function makeLink(target: string, path: string): void {
  const errno = -sys.symlink(target, path);
  if (errno > 0 && errno !== EEXIST) throw systemError(`cannot make the link "${path}"`, errno);
}
