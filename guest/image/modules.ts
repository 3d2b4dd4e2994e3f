/**
 * Picks kernel modules with all that they need, in an order in which they can be loaded one after
 * the other. The modules say themselves what they need, in their `.modinfo`; nothing that depmod
 * writes is asked for.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { decompress } from "./decompress.ts";
import { ElfFile } from "./elf.ts";
import { filesBelow } from "./files.ts";

/** A module that can be loaded once those before it are. */
export interface KernelModule {
  /** Its name, with `_` for `-`. */
  readonly name: string;
  /** The file's content, uncompressed; with its signature, where it has one. */
  readonly bytes: Uint8Array;
}

/** Where a file's name ends that holds a module. */
const MODULE_FILE = /^(.+)\.ko(\.(?:xz|zst|gz))?$/;

/**
 * Picks modules.
 *
 * @param directory The directory of one kernel's modules.
 * @param wanted Their names.
 * @returns The modules in order, each after those that it needs.
 * @throws {SandboxError} `FailedPrecondition` where one is missing.
 */
export async function pickModules(
  directory: string,
  wanted: readonly string[],
): Promise<KernelModule[]> {
  const paths = new Map<string, string>();
  for await (const { path, name } of filesBelow(directory)) {
    const [, module] = MODULE_FILE.exec(name) ?? [];
    if (module !== undefined) paths.set(plain(module), path);
  }
  const picked = new Map<string, KernelModule>();
  const pick = async (name: string, neededBy: readonly string[]): Promise<void> => {
    if (picked.has(name)) return;
    const path = paths.get(name);
    if (path === undefined || neededBy.includes(name)) throw missing(name, neededBy, directory);
    const bytes = await readModule(path);
    for (const needed of dependencies(bytes, path)) await pick(needed, [...neededBy, name]);
    picked.set(name, { name, bytes });
  };
  for (const name of wanted) await pick(plain(name), []);
  return [...picked.values()];
}

/**
 * What a module needs.
 *
 * @param bytes The module.
 * @param path Its path, for messages.
 * @returns Names, with `_` for `-`.
 */
export function dependencies(bytes: Uint8Array, path: string): string[] {
  const info = new ElfFile(bytes, path).section(".modinfo");
  const fields = new TextDecoder().decode(info ?? new Uint8Array()).split("\0");
  const depends = fields.find((field) => field.startsWith("depends="))?.slice("depends=".length);
  return (depends ?? "").split(",").filter((name) => name !== "").map(plain);
}

/** Reads a module as the kernel takes it. */
async function readModule(path: string): Promise<Uint8Array> {
  const bytes = await Deno.readFile(path);
  return path.endsWith(".ko") ? bytes : await decompress(bytes, `the module "${path}"`);
}

/** Names of modules say the same with `-` and `_`. */
function plain(name: string): string {
  return name.replaceAll("-", "_");
}

function missing(name: string, neededBy: readonly string[], directory: string): SandboxError {
  const why = neededBy.length === 0 ? "" : `, which ${neededBy.join(" > ")} needs`;
  return new SandboxError(
    "FailedPrecondition",
    `cannot find the kernel module "${name}"${why} in "${directory}"`,
  );
}
