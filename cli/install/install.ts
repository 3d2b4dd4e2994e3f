/**
 * Installs a bundle and takes it away again.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { installedItems, PROGRAM_DIRECTORY, type SandboxerKind } from "./layout.ts";
import {
  type Entry,
  type Manifest,
  MANIFEST_PATH,
  readManifest,
  writeManifest,
} from "./manifest.ts";
import { makeDirectories, type Placement, placementOf, put, takeAway } from "./place.ts";

/** What to install, and where. */
export interface InstallOptions {
  /** The directory of the bundle. */
  readonly bundle: string;
  /** What all paths are below; empty for the root. */
  readonly prefix: string;
  /** The sandboxers. */
  readonly kinds: readonly SandboxerKind[];
  /** Whether files of others are replaced. */
  readonly force: boolean;
}

/** What an installation comes to. */
export interface InstallPlan {
  /** What to install, and where. */
  readonly options: InstallOptions;
  /** The version of the bundle. */
  readonly version: string;
  /** Each item with what has to be done about it. */
  readonly placements: readonly Placement[];
  /** What an earlier version had and this one has not. */
  readonly obsolete: readonly Entry[];
  /** The earlier installation. */
  readonly before: Manifest | undefined;
}

/** The list of files of a Debian package, if that is what is installed. */
const PACKAGE_LIST = "/var/lib/dpkg/info/quasaur.list";

/**
 * Finds out what an installation comes to, and does nothing.
 *
 * @param options What to install, and where.
 * @throws {SandboxError} `FailedPrecondition` where the bundle is not complete, the package manager
 *   has installed it, or files of others are in the way.
 */
export async function planInstall(options: InstallOptions): Promise<InstallPlan> {
  const { bundle, prefix, kinds, force } = options;
  await refusePackage(prefix);
  if (bundle === PROGRAM_DIRECTORY || bundle === `${prefix}${PROGRAM_DIRECTORY}`) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot install: ${bundle} is what is installed: run the new bundle's own bin/quasaur, or ` +
        "name the bundle with --from",
    );
  }
  const before = await readManifest(prefix).catch((error: unknown) => {
    if (force) return undefined;
    throw error;
  });
  const entries = new Map(before?.entries.map((entry) => [entry.path, entry]));
  const all = [...new Set([...before?.kinds ?? [], ...kinds])];
  const items = installedItems(all);
  const placements: Placement[] = [];
  for (const item of items) {
    placements.push(await placementOf(item, bundle, prefix, entries.get(item.path)));
  }
  const foreign = placements.filter(({ action }) => action === "foreign");
  if (foreign.length > 0 && !force) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot install: somebody else wrote ${
        foreign.map(({ item }) => `${prefix}${item.path}`).join(", ")
      }: move it away, or use --force`,
    );
  }
  const wanted = new Set(items.map(({ path }) => path));
  const obsolete = (before?.entries ?? []).filter(({ path, type }) =>
    type !== "directory" && !wanted.has(path)
  );
  return {
    options: { ...options, kinds: all },
    version: await versionOf(bundle),
    placements,
    obsolete,
    before,
  };
}

/** What a package manager put in place is its own. */
async function refusePackage(prefix: string): Promise<void> {
  if (await Deno.stat(`${prefix}${PACKAGE_LIST}`).then(() => true, () => false)) {
    throw new SandboxError(
      "FailedPrecondition",
      "cannot install: the Debian package quasaur is installed, and its files are dpkg's: use apt, " +
        "or remove the package first",
    );
  }
}

async function versionOf(bundle: string): Promise<string> {
  const path = `${bundle}/deno.json`;
  const value: unknown = JSON.parse(
    await Deno.readTextFile(path).catch((cause: unknown) => {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot install: ${bundle} is no bundle: it has no deno.json: make one with ` +
          "`deno task bundle`, or name it with --from",
        { cause },
      );
    }),
  );
  const version = typeof value === "object" && value !== null && "version" in value
    ? value.version
    : undefined;
  if (typeof version === "string") return version;
  throw new SandboxError("FailedPrecondition", `cannot install: ${path} names no version`);
}

/**
 * Carries a plan out. What was done is written down before it is done: whatever happens in between,
 * it can be taken away again, or finished by the same command.
 *
 * @param plan The plan.
 * @param containerd Whether containerd's configuration is changed too.
 * @returns Files that an earlier version left and somebody changed: they stay.
 * @throws {SandboxError} Where rights or room are missing.
 */
export async function install(plan: InstallPlan, containerd: boolean): Promise<string[]> {
  const { options: { bundle, prefix, kinds, force }, version, placements, before } = plan;
  const made = new Map((before?.entries ?? []).map((entry) => [entry.path, entry]));
  const ours = placements.filter(({ action }) =>
    action === "put" || action === "same" || action === "foreign" && force
  );
  const directories = new Set(
    placements.map(({ item: { path, type } }) =>
      type === "directory" ? path : path.slice(0, path.lastIndexOf("/"))
    ),
  );
  directories.add(MANIFEST_PATH.slice(0, MANIFEST_PATH.lastIndexOf("/")));
  for (const directory of directories) {
    for (const entry of await makeDirectories(prefix, directory)) made.set(entry.path, entry);
  }
  const files = ours.map(({ entry }) => entry).filter(({ type }) => type !== "directory");
  for (const entry of files) if (!made.has(entry.path)) made.set(entry.path, entry);
  const isDirectory = ({ type }: Entry) => type === "directory";
  const manifest = (): Manifest => ({
    format: 1,
    version,
    kinds,
    containerd: containerd || before?.containerd === true,
    entries: [
      ...[...made.values()].filter(isDirectory),
      ...[...made.values()].filter((entry) => !isDirectory(entry)),
    ],
  });
  await writeManifest(prefix, manifest());
  for (const { item, action } of ours) if (action !== "same") await put(item, bundle, prefix);
  for (const entry of files) made.set(entry.path, entry);
  const kept: string[] = [];
  for (const entry of plan.obsolete) {
    if (await takeAway(entry, prefix) === "changed") kept.push(entry.path);
    made.delete(entry.path);
  }
  await writeManifest(prefix, manifest());
  return kept;
}

/**
 * Takes away what was installed.
 *
 * @param manifest What that is.
 * @param prefix What its paths are below; empty for the root.
 * @returns Files that somebody changed: they stay.
 * @throws {SandboxError} Where rights are missing; then the same command can be run again.
 */
export async function uninstall(manifest: Manifest, prefix: string): Promise<string[]> {
  const changed: string[] = [];
  const files = manifest.entries.filter(({ type }) => type !== "directory");
  for (const entry of files.toReversed()) {
    if (await takeAway(entry, prefix) === "changed") changed.push(entry.path);
  }
  await Deno.remove(`${prefix}${MANIFEST_PATH}`);
  const directories = manifest.entries.filter(({ type }) => type === "directory");
  // The deepest first.
  for (const entry of directories.toSorted((a, b) => b.path.length - a.path.length)) {
    await takeAway(entry, prefix);
  }
  return changed.toReversed();
}
