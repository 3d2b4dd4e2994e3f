/**
 * The root file system of a container from outside: finding the program in it. Paths are resolved
 * by the kernel as if the directory were the root (openat2 RESOLVE_IN_ROOT), so no link of an image
 * leads out of it.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ProcessSpec } from "../lifecycle/spec.ts";
import type { ProgramShortcut } from "./known_programs.ts";
import { isEmptyImage } from "./image_files.ts";
import { assertModuleHeader, MODULE_BYTES_MAX } from "./module_bytes.ts";
import { ERRNO, systemError } from "./native/errno.ts";
import { AT_FDCWD, OPEN, RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";

/** Where programs without a slash are looked for when the environment has no PATH. */
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Directories of PATH that are searched. */
const PATH_ENTRIES_MAX = 64;
/** Candidates that a message names. */
const NAMED_MAX = 8;

/** Failures that mean "look at the next place". */
const ABSENT: ReadonlySet<number> = new Set([ERRNO.ENOENT, ERRNO.ENOTDIR, ERRNO.EACCES]);

/**
 * Opens a root file system's directory.
 *
 * @param path Absolute, of the host.
 * @returns A descriptor that only names the directory (O_PATH); the caller closes it.
 * @throws {SandboxError} `NotFound` or `InvalidArgument` when it is no directory.
 */
export function openRootfs(system: System, path: string): number {
  const fd = system.openAt(AT_FDCWD, path, OPEN.path | OPEN.directory, 0);
  if (fd < 0) throw systemError(`cannot open the root file system "${path}"`, -fd);
  return fd;
}

/**
 * Loads the program that a process starts.
 *
 * @param rootfs The root file system's directory.
 * @param process Its first argument names the program: absolute, relative to the working directory,
 *   or a name that is looked for in the environment's PATH and then in the working directory.
 * @param load Makes something of the file's bytes; its errors name the file too.
 * @param shortcut Knows files that need not be read; undefined where all are.
 * @returns What `load` made.
 * @throws {SandboxError} `NotFound` when it is not in the image; `InvalidArgument` when it cannot
 *   be a WebAssembly module.
 */
export async function loadProgram<T>(
  system: System,
  rootfs: number,
  process: ProcessSpec,
  load: (bytes: Uint8Array<ArrayBuffer>) => Promise<T>,
  shortcut?: ProgramShortcut<T>,
): Promise<T> {
  const name = process.args[0] ?? "";
  const { fd, path } = openProgram(system, rootfs, name, process);
  try {
    const known = await shortcut?.find(fd);
    if (known !== undefined) return known;
    const { sizeBytes } = system.status(fd);
    // Only what may be loaded is read: the header and the size tell most of it.
    const head = await system.readFile(fd, Math.min(sizeBytes, 8));
    assertModuleHeader(head, sizeBytes);
    const loaded = await load(await system.readFile(fd, Math.min(sizeBytes, MODULE_BYTES_MAX)));
    shortcut?.keep(fd, loaded);
    return loaded;
  } catch (error) {
    throw inFile(path, error);
  } finally {
    system.close(fd);
  }
}

/** Finds and opens the program. */
function openProgram(
  system: System,
  rootfs: number,
  name: string,
  process: ProcessSpec,
): { readonly fd: number; readonly path: string } {
  const candidates = programPaths(name, process);
  for (const path of candidates) {
    const fd = system.openAt(
      rootfs,
      path,
      OPEN.readOnly | OPEN.nonblocking | OPEN.noTerminal,
      RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    );
    if (fd < 0 && ABSENT.has(-fd)) continue;
    if (fd < 0) throw systemError(`cannot open the program "${path}" of the image`, -fd);
    if (system.status(fd).kind === "file") return { fd, path };
    system.close(fd);
  }
  const places = candidates.slice(0, NAMED_MAX).map((path) => `"${path}"`).join(", ");
  const hint = isEmptyImage(system, rootfs)
    ? ": the image has no files: containerd does not unpack WebAssembly artifacts: put the module " +
      "into an ordinary image"
    : "";
  throw new SandboxError(
    "NotFound",
    `cannot find the program "${name}" in the image: no file at ${places}${hint}`,
  );
}

/**
 * Where a program may be, in the order in which to look.
 *
 * @param name What the process is to run.
 * @param process Its environment and working directory.
 * @returns Absolute paths inside the root file system.
 */
export function programPaths(name: string, process: ProcessSpec): string[] {
  if (name === "") {
    throw new SandboxError("InvalidArgument", "cannot start a process without a program name");
  }
  if (name.startsWith("/")) return [name];
  const inCwd = join(process.cwd, name);
  if (name.includes("/")) return [inCwd];
  const path = process.env.find((entry) => entry.startsWith("PATH="))?.slice(5) ?? DEFAULT_PATH;
  const directories = path.split(":").filter((entry) => entry !== "").slice(0, PATH_ENTRIES_MAX);
  const inPath = directories.map((directory) => join(join(process.cwd, directory), name));
  return [...new Set([...inPath, inCwd])];
}

function join(base: string, path: string): string {
  return path.startsWith("/") ? path : `${base === "" ? "/" : base.replace(/\/*$/, "/")}${path}`;
}

/** Names the file in an error about its content. */
function inFile(path: string, error: unknown): SandboxError {
  const { code, message } = SandboxError.from(error);
  return new SandboxError(code, `${message} (file "${path}" of the image)`, { cause: error });
}
