/**
 * The manifest of a built guest: which packages and sources it was made of, and what came out. The
 * same input gives the same manifest.
 *
 * @module
 */

import { sha256Hex } from "./digest.ts";
import { filesBelow } from "./files.ts";
import { MANIFEST_FILE } from "./paths.ts";

/** A file that was built. */
export interface BuiltFile {
  /** The file's name. */
  readonly name: string;
  /** Its length. */
  readonly bytes: number;
  /** Its SHA-256 in hexadecimal. */
  readonly sha256: string;
}

/** What is known of a built guest. */
export interface GuestManifest {
  /** The version of this form. */
  readonly format: 1;
  /** The kernel's release. */
  readonly kernelRelease: string;
  /** Whether it has a shell for the debug console. */
  readonly console: boolean;
  /** SHA-256 over our own sources that it is made of, in hexadecimal. */
  readonly sources: string;
  /** The kernel's modules, in the order in which they are loaded. */
  readonly modules: readonly string[];
  /** The Debian packages, with the SHA-256 of their files. */
  readonly packages: readonly {
    readonly name: string;
    readonly version: string;
    readonly sha256: string;
  }[];
  /** What was built. */
  readonly files: readonly BuiltFile[];
}

/** The directories of our own sources that are in a guest, or make it; below the repository. */
const SOURCE_DIRECTORIES = ["guest/agent", "guest/protocol", "guest/image"];

/** What of them counts. */
const SOURCE_FILE = /\.(ts|js|c|h|S)$/;

/** What of them does not. */
const NO_SOURCE = /\/build\/|_test\.ts$|\/testing\//;

/**
 * The SHA-256 over our own sources.
 *
 * @param repository The repository's root.
 * @returns 64 hexadecimal digits; others after any change of a source.
 */
export async function sourcesDigest(repository: string): Promise<string> {
  const lines: string[] = [];
  for (const directory of SOURCE_DIRECTORIES) {
    for await (const { path } of filesBelow(`${repository}/${directory}`)) {
      const inside = path.slice(repository.length + 1);
      if (!SOURCE_FILE.test(inside) || NO_SOURCE.test(inside)) continue;
      lines.push(`${await sha256Hex(await Deno.readFile(path))} ${inside}\n`);
    }
  }
  return await sha256Hex(new TextEncoder().encode(lines.join("")));
}

/**
 * Reads the manifest of a directory.
 *
 * @param directory Where a guest was built.
 * @returns undefined where there is none that can be read.
 */
export async function readManifest(directory: string): Promise<GuestManifest | undefined> {
  try {
    const value: unknown = JSON.parse(await Deno.readTextFile(`${directory}/${MANIFEST_FILE}`));
    return isManifest(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Whether it is one of ours; who can write to the directory can replace the kernel too. */
function isManifest(value: unknown): value is GuestManifest {
  return typeof value === "object" && value !== null && "format" in value && value.format === 1 &&
    "files" in value && Array.isArray(value.files) && "sources" in value && "console" in value;
}

/**
 * Whether a guest has to be built.
 *
 * @param directory Where it would be.
 * @param repository The repository's root.
 */
export async function isGuestStale(directory: string, repository: string): Promise<boolean> {
  const manifest = await readManifest(directory);
  if (manifest === undefined) return true;
  for (const { name, bytes } of manifest.files) {
    const found = await Deno.stat(`${directory}/${name}`).catch(() => undefined);
    if (found?.size !== bytes) return true;
  }
  return manifest.sources !== await sourcesDigest(repository);
}
