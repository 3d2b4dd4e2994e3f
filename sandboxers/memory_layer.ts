/**
 * What a container writes over an image, in memory and with a bound: a file system in memory is
 * mounted at the place of the root file system, and an overlay over that, whose upper directory lies
 * in it. Whoever unmounts the place takes both away, and all that was written.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";
import type { RootfsMount } from "./lifecycle/spec.ts";
import { type ParsedMount, splitLayers } from "./mount_options.ts";

/** The mode of `/` where that of the image is not known. */
const ROOT_MODE = 0o755;

/** A file, directory or link for each so many bytes: memory that they take is not counted as theirs. */
const BYTES_PER_FILE = 4_096;

/**
 * The mounts of a root file system whose writes are bounded.
 *
 * @param image The files of the image, an absolute path without `,`, `:` and `\`.
 * @param target Where the root file system is mounted, an absolute path without them.
 * @param bytesMax What may be written.
 */
export function memoryLayer(image: string, target: string, bytesMax: number): RootfsMount[] {
  const filesMax = Math.ceil(bytesMax / BYTES_PER_FILE);
  return [
    {
      type: "tmpfs",
      source: "quasaur-layer",
      options: [`size=${bytesMax}`, `nr_inodes=${filesMax}`, "mode=0700", "nosuid", "nodev"],
    },
    {
      type: "overlay",
      source: "overlay",
      options: [`lowerdir=${image}`, `upperdir=${target}/upper`, `workdir=${target}/work`],
    },
  ];
}

/**
 * Makes the directories of an overlay whose upper directory lies in what is mounted below it. Does
 * nothing for any other mount.
 *
 * @param mount The overlay, which is about to be mounted.
 * @param target Where.
 * @throws {SandboxError} Where they cannot be made.
 */
export async function makeLayerDirectories(mount: ParsedMount, target: string): Promise<void> {
  if (!needsLayerDirectories(mount, target)) return;
  const upper = optionOf(mount, "upperdir");
  const work = optionOf(mount, "workdir");
  const [image] = splitLayers(optionOf(mount, "lowerdir"));
  try {
    for (const directory of [upper, work]) await Deno.mkdir(directory);
    if (image !== undefined) await dressLike(image, upper);
  } catch (error) {
    throw SandboxError.from(error, `cannot make the upper directory of "${target}"`);
  }
}

/** Whether {@link makeLayerDirectories} does something. */
export function needsLayerDirectories(mount: ParsedMount, target: string): boolean {
  return mount.type === "overlay" && optionOf(mount, "upperdir").startsWith(`${target}/`);
}

/**
 * Gives the upper directory of an overlay the mode and the owner of the image's: what is on top gives
 * `/` both.
 *
 * @param image The directory of the image.
 * @param upper The upper directory.
 * @throws {SandboxError} Where the image is not there.
 */
export async function dressLike(image: string, upper: string): Promise<void> {
  let mode: number | null = null;
  let owner: readonly [number | null, number | null] = [null, null];
  try {
    const status = await Deno.stat(image);
    mode = status.mode;
    owner = [status.uid, status.gid];
  } catch (error) {
    // Images may lie where this process may not look: the usual will do then.
    if (!(error instanceof Deno.errors.NotCapable)) {
      throw SandboxError.from(error, `cannot use the root file system "${image}"`);
    }
  }
  await Deno.chmod(upper, (mode ?? ROOT_MODE) & 0o7777);
  await Deno.chown(upper, ...owner);
}

/**
 * Whether all is written that may be, so that what is written next fails.
 *
 * @param rootfs A root file system in which nothing runs any more.
 */
export async function isLayerFull(rootfs: string): Promise<boolean> {
  const path = `${rootfs}/.${crypto.randomUUID()}`;
  try {
    await Deno.writeFile(path, new Uint8Array(1), { createNew: true });
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ENOSPC";
  } finally {
    await Deno.remove(path).catch(() => undefined);
  }
}

function optionOf({ data }: ParsedMount, name: string): string {
  return data.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
}
