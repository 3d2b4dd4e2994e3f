/**
 * Root file systems that show an image and take what a container writes for themselves: overlays,
 * which the lifecycle mounts, with their upper directories below the program's own.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Mounter } from "../lifecycle/mounter.ts";
import type { RootfsSpec } from "../lifecycle/spec.ts";
import { removeTree } from "../removal.ts";

/** The directory of overlays below that of a program. */
const OVERLAYS = "overlays";
const MERGED = "merged";

/** A root file system. Disposing of it removes what was written; it must not be mounted any more. */
export interface OverlayRootfs extends AsyncDisposable {
  /** What the lifecycle is told. */
  readonly spec: RootfsSpec;
}

/**
 * Makes the directories of an overlay.
 *
 * @param directory The program's own.
 * @param id The container.
 * @param image The files of the image.
 * @throws {SandboxError} Where they cannot be made.
 */
export async function makeOverlayRootfs(
  directory: string,
  id: string,
  image: string,
): Promise<OverlayRootfs> {
  const base = `${directory}/${OVERLAYS}/${id}`;
  const remove = () => removeTree(base);
  try {
    const { mode, uid, gid } = await Deno.stat(image);
    await Deno.mkdir(base, { recursive: true, mode: 0o700 });
    for (const part of [MERGED, "upper", "work"]) await Deno.mkdir(`${base}/${part}`);
    // What is on top gives `/` its owner and its mode.
    await Deno.chmod(`${base}/upper`, (mode ?? 0o755) & 0o7777);
    await Deno.chown(`${base}/upper`, uid ?? null, gid ?? null);
  } catch (error) {
    await remove().catch(() => undefined);
    throw SandboxError.from(error, `cannot make a root file system for container "${id}"`);
  }
  const options = [`lowerdir=${image}`, `upperdir=${base}/upper`, `workdir=${base}/work`];
  return {
    spec: {
      kind: "mounts",
      target: `${base}/${MERGED}`,
      mounts: [{ type: "overlay", source: "overlay", options }],
    },
    [Symbol.asyncDispose]: remove,
  };
}

/**
 * Unmounts the overlays that a program left that was killed. Call it before its directory is removed.
 *
 * @param directory The program's.
 * @param mounter Unmounts.
 */
export async function unmountLeftOverlays(directory: string, mounter: Mounter): Promise<void> {
  const targets: string[] = [];
  try {
    for await (const { name } of Deno.readDir(`${directory}/${OVERLAYS}`)) {
      targets.push(`${directory}/${OVERLAYS}/${name}/${MERGED}`);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  for (const target of targets) await mounter.unmount(target);
}
