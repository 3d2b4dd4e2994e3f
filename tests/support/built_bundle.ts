/**
 * A bundle of the sources as they are, for tests: made once and kept in `build/`, until a source is
 * newer.
 *
 * @module
 */

import { bundle } from "../../scripts/bundle.ts";
import { run } from "./command.ts";
import { REPOSITORY } from "./permissions.ts";

/** Where it is kept. */
const KEPT = `${REPOSITORY}/build/test-bundle`;

/** What a bundle is made of. */
const SOURCES = [
  "cli",
  "deno.json",
  "deno.lock",
  "deploy",
  "mod.ts",
  "proto",
  "sandboxers",
  "task",
];

/**
 * Puts a copy of the bundle somewhere.
 *
 * @param directory Where; made by this.
 */
export async function copyBundle(directory: string): Promise<void> {
  if (await isStale()) {
    const made = `${KEPT}.${Deno.pid}`;
    await bundle({ outDir: made });
    await Deno.remove(KEPT, { recursive: true }).catch(() => undefined);
    await Deno.rename(made, KEPT);
  }
  await run(["cp", "-a", KEPT, directory]);
}

/** Whether there is none, or a source is newer. */
async function isStale(): Promise<boolean> {
  const made = (await Deno.stat(`${KEPT}/completions/bash`).catch(() => undefined))?.mtime;
  if (!made) return true;
  const paths = SOURCES.map((name) => `${REPOSITORY}/${name}`);
  const { stdout } = await run([
    "find",
    ...[...paths, "-name", "build", "-prune", "-o", "-type", "f"],
    ...["-newermt", `@${made.getTime() / 1000}`, "-print", "-quit"],
  ]);
  return stdout !== "";
}
