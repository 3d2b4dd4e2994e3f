/**
 * The layers of an overlay, as a snapshotter mounts it, and what tells one set of lower layers from
 * another. Lower layers of containerd's snapshotters never change once they are there: the identity
 * of their directories stands for all that is in them.
 *
 * @module
 */

import { hashOf } from "./key.ts";
import type { RootfsMount } from "../../lifecycle/spec.ts";
import { splitLayers } from "../../mount_options.ts";

/** The directories of an overlay. */
export interface OverlayLayers {
  /** The lower ones, the topmost first. */
  readonly lowers: readonly string[];
  /** The upper one; undefined where nothing can be written. */
  readonly upper: string | undefined;
  /** What else the overlay is mounted with, sorted. */
  readonly options: readonly string[];
}

/** Options that say where directories are, or how the mount behaves, not what is in it. */
const OTHER_OPTIONS =
  /^(lowerdir=|upperdir=|workdir=|r[ow]$|volatile$|index=|uuid=|(str|rel)atime$)/;

/**
 * Takes a root file system apart.
 *
 * @param mounts As the snapshotter gives them.
 * @returns Undefined where it is no overlay, or one of a kind whose layers cannot be told apart.
 */
export function overlayLayers(mounts: readonly RootfsMount[]): OverlayLayers | undefined {
  const [mount] = mounts;
  if (mount?.type !== "overlay" || mounts.length !== 1) return undefined;
  const valueOf = (name: string) =>
    mount.options.findLast((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
  const lowerdir = valueOf("lowerdir") ?? "";
  const lowers = splitLayers(lowerdir);
  // Two colons stand before layers that hold data only.
  if (lowerdir.includes("::") || lowers.length === 0) return undefined;
  if (lowers.some((lower) => !lower.startsWith("/"))) return undefined;
  const options = mount.options.filter((option) => !OTHER_OPTIONS.test(option)).sort();
  return { lowers, upper: valueOf("upperdir"), options };
}

/**
 * What tells an overlay's content from others.
 *
 * @param layers The overlay.
 * @returns A hexadecimal hash; undefined where something was written to the upper directory, or a
 *   directory may not be looked at: then nothing is known of the content.
 */
export async function contentKey(layers: OverlayLayers): Promise<string | undefined> {
  try {
    if (layers.upper !== undefined && !await isEmpty(layers.upper)) return undefined;
    const identities = await Promise.all(layers.lowers.map(identity));
    return hashOf([identities, layers.options]);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (error instanceof Deno.errors.NotCapable) return undefined;
    if (error instanceof Deno.errors.PermissionDenied) return undefined;
    throw error;
  }
}

async function isEmpty(directory: string): Promise<boolean> {
  for await (const _entry of Deno.readDir(directory)) return false;
  return true;
}

/**
 * A directory that was removed and made again under its name is another one. The number of its
 * device is left out: it may be another one after each start of the host.
 */
async function identity(path: string): Promise<readonly unknown[]> {
  const { ino, birthtime, ctime, mtime } = await Deno.stat(path);
  return [path, ino, ...[birthtime, ctime, mtime].map((time) => time?.getTime() ?? null)];
}
