/**
 * A saved machine on disk: the state of its devices, its memory, and what was attached to it.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import type { MachineSpec, SavedMachine } from "../hypervisor.ts";
import type { PluggedDisk } from "./command_line.ts";
import { machineLayout } from "./layout.ts";
import { Members, readSpec } from "./record.ts";

/** Files of a saved machine in its directory. */
export const SAVED_FILES = {
  /** The devices' state, and the memory where it is saved whole. */
  state: "state",
  /** The memory, where its clones share it. */
  memory: "memory",
  /** What was attached, and how it was saved. */
  manifest: "machine.json",
} as const;

/** How a machine was saved. */
export interface SavedManifest {
  /** The QEMU that saved it: no other reads it for sure. */
  readonly version: string;
  /** How this program builds machines; see {@link machineLayout}. */
  readonly layout: string;
  /** What the machine was made of. */
  readonly spec: MachineSpec;
  /** Whether the state has the memory too. */
  readonly whole: boolean;
  /** Whether it gives unused memory back. */
  readonly balloon: boolean;
  /** The images in its slots. */
  readonly slots: readonly { readonly slot: number; readonly path: string }[];
  /** Disks that were plugged in. */
  readonly plugged: readonly PluggedDisk[];
}

/** Largest manifest that is read, in bytes. */
const MANIFEST_BYTES_MAX = 64 << 10;

/** Where the files of a saved machine are. */
export function savedFile(directory: string, name: keyof typeof SAVED_FILES): string {
  return `${directory}/${SAVED_FILES[name]}`;
}

/** Writes how a machine was saved; the last file, so that what is incomplete has none. */
export async function writeManifest(directory: string, manifest: SavedManifest): Promise<void> {
  const path = savedFile(directory, "manifest");
  await Deno.writeTextFile(path, JSON.stringify(manifest) + "\n", { mode: 0o444 });
}

/**
 * Reads how a machine was saved and looks whether its files are whole and fit.
 *
 * @param saved The saved machine.
 * @param version The version of the QEMU that is to load it.
 * @throws {SandboxError} `FailedPrecondition` where they are not.
 */
export async function readManifest(
  saved: SavedMachine,
  version: string,
): Promise<SavedManifest> {
  return await readAny(saved.directory, (manifest) => {
    checkVersion(manifest, version);
    // QEMU itself does not notice every device that is missing or too many.
    if (JSON.stringify(manifest.spec) !== JSON.stringify(ordered(saved.spec))) {
      throw new Error("it was made of something else");
    }
  });
}

/**
 * Finds a saved machine by its directory.
 *
 * @param directory The directory.
 * @param version The version of the QEMU that is to load it.
 * @throws {SandboxError} `FailedPrecondition` where it is not whole, or does not fit.
 */
export async function findSaved(directory: string, version: string): Promise<SavedMachine> {
  const { spec } = await readAny(directory, (manifest) => {
    checkVersion(manifest, version);
    if (manifest.layout === machineLayout()) return;
    throw new Error("another version of this program saved it, with other devices");
  });
  return { directory, spec };
}

function checkVersion(manifest: SavedManifest, version: string): void {
  if (manifest.version === version) return;
  throw new Error(`QEMU ${manifest.version} saved it, and this is ${version}`);
}

async function readAny(
  directory: string,
  check: (manifest: SavedManifest) => void,
): Promise<SavedManifest> {
  const path = savedFile(directory, "manifest");
  try {
    const { size } = await Deno.stat(path);
    if (size > MANIFEST_BYTES_MAX) throw new Error(`it has ${size} bytes`);
    const manifest = parse(await Deno.readTextFile(path));
    check(manifest);
    await checkFiles({ directory, spec: manifest.spec }, manifest);
    return manifest;
  } catch (thrown) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot use the saved machine in "${directory}": ${messageOf(thrown)}`,
      { cause: thrown },
    );
  }
}

async function checkFiles(saved: SavedMachine, manifest: SavedManifest): Promise<void> {
  const state = await Deno.stat(savedFile(saved.directory, "state"));
  if (state.size === 0) throw new Error("its state is empty");
  if (manifest.whole) return;
  const memory = await Deno.stat(savedFile(saved.directory, "memory"));
  const { memoryBytes } = saved.spec;
  // A guest that touches a page beyond the file's end would be killed for it.
  if (memory.size !== memoryBytes) {
    throw new Error(`its memory has ${memory.size} bytes instead of ${memoryBytes}`);
  }
}

function parse(text: string): SavedManifest {
  const value: Json = JSON.parse(text);
  const root = new Members(value, "manifest");
  return {
    version: root.text("version"),
    layout: root.optionalText("layout") ?? "",
    spec: readSpec(root.object("spec")),
    whole: root.flag("whole"),
    balloon: root.flag("balloon"),
    slots: root.list("slots").map((slot) => ({
      slot: slot.number("slot"),
      path: slot.text("path"),
    })),
    plugged: root.list("plugged").map((disk) => ({
      port: disk.number("port"),
      path: disk.text("path"),
      serial: disk.text("serial"),
    })),
  };
}

/** The same in the order of members in which it is read. */
function ordered(spec: MachineSpec): MachineSpec {
  return readSpec(new Members({ ...spec }, "spec"));
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
