/**
 * What was put in place, with hashes, so that exactly that can be taken away again.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { writeAtomically } from "../containerd/files.ts";
import { SANDBOXER_KINDS, type SandboxerKind } from "./layout.ts";

/** Where it is kept, below the prefix. */
export const MANIFEST_PATH = "/var/lib/quasaur/install.json";

/** Something that was put in place. */
export interface Entry {
  /** Where, without the prefix. */
  readonly path: string;
  /** What it is. */
  readonly type: "file" | "link" | "directory";
  /** The SHA-256 of a file, what a link leads to, or nothing for a directory. */
  readonly content: string;
}

/** All of it. */
export interface Manifest {
  /** The version of this file. */
  readonly format: 1;
  /** The version of what was installed. */
  readonly version: string;
  /** The sandboxers that were installed. */
  readonly kinds: readonly SandboxerKind[];
  /** Whether containerd's configuration was changed too. */
  readonly containerd: boolean;
  /** What was put in place, in order; directories only where they were made. */
  readonly entries: readonly Entry[];
}

/**
 * Reads the manifest.
 *
 * @param prefix What the paths are below; empty for the root.
 * @returns undefined where nothing was installed.
 * @throws {SandboxError} `DataLoss` where it is damaged.
 */
export async function readManifest(prefix: string): Promise<Manifest | undefined> {
  const path = `${prefix}${MANIFEST_PATH}`;
  try {
    const value: unknown = JSON.parse(await Deno.readTextFile(path));
    if (isManifest(value)) return value;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    if (!(error instanceof SyntaxError)) throw SandboxError.from(error, `cannot read ${path}`);
  }
  throw new SandboxError(
    "DataLoss",
    `cannot read ${path}: it is not what \`quasaur install\` wrote: install the same version once ` +
      "more with --force, which writes it anew",
  );
}

/**
 * Writes the manifest.
 *
 * @param prefix What the paths are below; empty for the root.
 * @param manifest What it says.
 * @throws {SandboxError} Where it cannot be written.
 */
export async function writeManifest(prefix: string, manifest: Manifest): Promise<void> {
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  await writeAtomically(`${prefix}${MANIFEST_PATH}`, text, { mode: 0o644 });
}

function isManifest(value: unknown): value is Manifest {
  return isRecord(value) && value["format"] === 1 && typeof value["version"] === "string" &&
    typeof value["containerd"] === "boolean" &&
    Array.isArray(value["kinds"]) &&
    value["kinds"].every((kind) => SANDBOXER_KINDS.some((known) => known === kind)) &&
    Array.isArray(value["entries"]) && value["entries"].every(isEntry);
}

function isEntry(value: unknown): value is Entry {
  return isRecord(value) && typeof value["content"] === "string" &&
    typeof value["path"] === "string" && /^\/[^\0]+$/.test(value["path"]) &&
    !value["path"].split("/").includes("..") &&
    ["file", "link", "directory"].some((type) => type === value["type"]);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
