/**
 * Puts files in place and takes them away again: never one that somebody else wrote or changed.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { cannotWrite, sha256, writeAtomically } from "../containerd/files.ts";
import type { InstalledItem } from "./layout.ts";
import type { Entry } from "./manifest.ts";

/** What is at a path: what it is and what it holds, as in a manifest. */
export type There = { readonly type: Entry["type"] | "other"; readonly content: string };

/** What has to be done about something. */
export type Action =
  /** It is not there, or it is ours and as we left it. */
  | "put"
  /** It is there as it has to be. */
  | "same"
  /** It is a configuration that somebody wrote or changed: it stays. */
  | "keep"
  /** It is somebody else's. */
  | "foreign";

/** What has to be done about one item. */
export interface Placement {
  /** The item. */
  readonly item: InstalledItem;
  /** What it is once it is in place. */
  readonly entry: Entry;
  /** What has to be done. */
  readonly action: Action;
}

/**
 * Looks at what is at a path.
 *
 * @param path The path.
 * @returns undefined where nothing is.
 */
export async function lookAt(path: string): Promise<There | undefined> {
  try {
    const info = await Deno.lstat(path);
    if (info.isSymlink) return { type: "link", content: await Deno.readLink(path) };
    if (info.isDirectory) return { type: "directory", content: "" };
    if (!info.isFile) return { type: "other", content: "" };
    return { type: "file", content: await sha256(await Deno.readFile(path)) };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return undefined;
    }
    throw SandboxError.from(error, `cannot look at ${path}`);
  }
}

/**
 * Finds out what has to be done about an item, and does nothing.
 *
 * @param item The item.
 * @param bundle The directory of the bundle.
 * @param prefix What the paths are below; empty for the root.
 * @param before What an earlier installation left there.
 * @throws {SandboxError} Where the bundle lacks it.
 */
export async function placementOf(
  item: InstalledItem,
  bundle: string,
  prefix: string,
  before: Entry | undefined,
): Promise<Placement> {
  const entry = await entryOf(item, bundle);
  const there = await lookAt(`${prefix}${item.path}`);
  const isAs = (other: Entry) => there?.type === other.type && there.content === other.content;
  if (there === undefined) return { item, entry, action: "put" };
  if (isAs(entry)) return { item, entry, action: "same" };
  if (before !== undefined && isAs(before)) return { item, entry, action: "put" };
  const isConfig = item.type === "file" && item.isConfig && there.type === "file";
  return { item, entry, action: isConfig ? "keep" : "foreign" };
}

async function entryOf(item: InstalledItem, bundle: string): Promise<Entry> {
  const { path, type } = item;
  if (type === "directory") return { path, type, content: "" };
  if (type === "link") return { path, type, content: item.target };
  return { path, type, content: await sha256(await readSource(bundle, item.source)) };
}

async function readSource(bundle: string, source: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await Deno.readFile(`${bundle}/${source}`);
  } catch (error) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot install: ${bundle} has no ${source}: make the bundle with \`deno task bundle\``,
      { cause: error },
    );
  }
}

/**
 * Puts an item in place.
 *
 * @param item The item.
 * @param bundle The directory of the bundle.
 * @param prefix What the paths are below; empty for the root.
 * @throws {SandboxError} Where rights or room are missing.
 */
export async function put(item: InstalledItem, bundle: string, prefix: string): Promise<void> {
  const path = `${prefix}${item.path}`;
  if (item.type === "directory") return;
  if (item.type === "file") {
    return await writeAtomically(path, await readSource(bundle, item.source), { mode: item.mode });
  }
  const temporary = `${path}.${Deno.pid}.quasaur-new`;
  try {
    await Deno.symlink(item.target, temporary);
    await Deno.rename(temporary, path);
  } catch (error) {
    await Deno.remove(temporary).catch(() => undefined);
    throw cannotWrite(path, error);
  }
}

/**
 * Makes a directory and those above it.
 *
 * @param prefix What the path is below; empty for the root.
 * @param directory An absolute path.
 * @returns Those that were made, the uppermost first, without the prefix.
 * @throws {SandboxError} Where rights are missing.
 */
export async function makeDirectories(prefix: string, directory: string): Promise<Entry[]> {
  const made: Entry[] = [];
  const parts = directory.split("/").slice(1);
  for (let i = 1; i <= parts.length; i++) {
    const path = `/${parts.slice(0, i).join("/")}`;
    try {
      await Deno.mkdir(`${prefix}${path}`, { mode: 0o755 });
      await Deno.chmod(`${prefix}${path}`, 0o755);
      made.push({ path, type: "directory", content: "" });
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) {
        throw cannotWrite(`${prefix}${path}`, error);
      }
    }
  }
  return made;
}

/**
 * Takes away what was put in place.
 *
 * @param entry What it was.
 * @param prefix What the path is below; empty for the root.
 * @returns `gone` where it is away now, `changed` where somebody changed it since: then it stays.
 * @throws {SandboxError} Where rights are missing.
 */
export async function takeAway(entry: Entry, prefix: string): Promise<"gone" | "changed"> {
  const path = `${prefix}${entry.path}`;
  const there = await lookAt(path);
  if (there === undefined) return "gone";
  if (there.type !== entry.type || there.content !== entry.content) return "changed";
  try {
    await Deno.remove(path);
    return "gone";
  } catch (error) {
    // Others have put something into a directory that was made for ours.
    const isFull = error instanceof Error && /not empty/i.test(error.message);
    if (entry.type === "directory" && isFull) return "gone";
    throw cannotWrite(path, error);
  }
}
