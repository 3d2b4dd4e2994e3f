/**
 * Places for mounts in a container's root file system. Links in an image lead where they lead inside
 * of the container, never out of its root: so every part of a path is looked at here, before any
 * process of the container runs that could change one meanwhile.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** Most links on one path, as in Linux. */
const LINKS_MAX = 40;
/** Most parts of one path, with those of links. */
const PARTS_MAX = 512;

/** A place in a root file system. */
export interface MountTarget {
  /** Where it is on the host: no part of it below the root is a link. */
  readonly path: string;
  /** What is there; undefined where nothing is, and all above it is a directory. */
  readonly kind: "directory" | "file" | undefined;
}

/**
 * Finds a place, and makes the directories above it.
 *
 * @param root The root file system, an absolute path.
 * @param destination A path inside, absolute.
 * @throws {SandboxError} `InvalidArgument` where something above it is no directory, or links go round
 *   in a circle; `FailedPrecondition` where a directory cannot be made.
 */
export async function findMountTarget(root: string, destination: string): Promise<MountTarget> {
  const action = `cannot mount at "${destination}"`;
  const waiting = partsOf(destination).reverse();
  let at: string[] = [];
  let links = 0;
  for (let steps = 0; waiting.length > 0; steps++) {
    if (steps > PARTS_MAX) throw new SandboxError("InvalidArgument", `${action}: too long a path`);
    const part = waiting.pop() ?? "";
    if (part === "..") {
      at.pop();
      continue;
    }
    const path = `${root}/${[...at, part].join("/")}`;
    const status = await lookAt(path, action);
    if (status?.isSymlink === true) {
      if (++links > LINKS_MAX) {
        throw new SandboxError("InvalidArgument", `${action}: too many links`);
      }
      const target = await Deno.readLink(path);
      if (target.startsWith("/")) at = [];
      waiting.push(...partsOf(target).reverse());
      continue;
    }
    const isLast = waiting.length === 0;
    if (status === undefined && isLast) return { path, kind: undefined };
    if (status === undefined) await makeDirectory(path, action);
    else if (!isLast && !status.isDirectory) {
      throw new SandboxError(
        "InvalidArgument",
        `${action}: "/${at.join("/")}${at.length === 0 ? "" : "/"}${part}" is no directory`,
      );
    }
    at.push(part);
    if (isLast) return { path, kind: status?.isDirectory === false ? "file" : "directory" };
  }
  throw new SandboxError("InvalidArgument", `${action}: it is the container's root`);
}

/**
 * Makes sure that a directory is there to be mounted at.
 *
 * @param root The root file system.
 * @param destination A path inside.
 * @throws {SandboxError} As {@link findMountTarget}.
 */
export async function ensureDirectory(root: string, destination: string): Promise<void> {
  const { path, kind } = await findMountTarget(root, destination);
  if (kind === undefined) await makeDirectory(path, `cannot mount at "${destination}"`);
}

/**
 * Makes an empty place of a kind where nothing is.
 *
 * @param path From {@link findMountTarget}.
 * @param kind What is to be mounted there.
 */
export async function makeTarget(path: string, kind: "directory" | "file"): Promise<void> {
  const action = `cannot make "${path}"`;
  if (kind === "directory") return await makeDirectory(path, action);
  try {
    (await Deno.open(path, { write: true, createNew: true, mode: 0o644 })).close();
  } catch (error) {
    throw targetError(error, action);
  }
}

function partsOf(path: string): string[] {
  return path.split("/").filter((part) => part !== "" && part !== ".");
}

async function lookAt(path: string, action: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw targetError(error, action);
  }
}

async function makeDirectory(path: string, action: string): Promise<void> {
  try {
    await Deno.mkdir(path, { mode: 0o755 });
  } catch (error) {
    throw targetError(error, action);
  }
}

/** A root file system that cannot be written to is the image's or the caller's choice. */
function targetError(error: unknown, action: string): SandboxError {
  const { code, message } = SandboxError.from(error, action);
  const isOurs = code === "ResourceExhausted" || code === "PermissionDenied";
  return new SandboxError(isOurs ? code : "FailedPrecondition", message, { cause: error });
}
