/**
 * Options of a mount as snapshotters give them (fstab words), as flags and data of mount(2).
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";
import type { RootfsMount } from "./lifecycle/spec.ts";

/** Flags of mount(2), from linux/mount.h. */
export const MS = {
  readOnly: 1,
  noSuid: 2,
  noDev: 4,
  noExec: 8,
  synchronous: 16,
  remount: 32,
  dirSync: 128,
  noAtime: 1024,
  noDirAtime: 2048,
  bind: 4096,
  recursive: 16384,
  relatime: 1 << 21,
  strictAtime: 1 << 24,
} as const;

/** What a word sets and clears. */
const WORDS: ReadonlyMap<string, { readonly set?: number; readonly clear?: number }> = new Map([
  ["defaults", {}],
  ["ro", { set: MS.readOnly }],
  ["rw", { clear: MS.readOnly }],
  ["nosuid", { set: MS.noSuid }],
  ["suid", { clear: MS.noSuid }],
  ["nodev", { set: MS.noDev }],
  ["dev", { clear: MS.noDev }],
  ["noexec", { set: MS.noExec }],
  ["exec", { clear: MS.noExec }],
  ["sync", { set: MS.synchronous }],
  ["async", { clear: MS.synchronous }],
  ["dirsync", { set: MS.dirSync }],
  ["noatime", { set: MS.noAtime }],
  ["atime", { clear: MS.noAtime }],
  ["nodiratime", { set: MS.noDirAtime }],
  ["diratime", { clear: MS.noDirAtime }],
  ["relatime", { set: MS.relatime }],
  ["norelatime", { clear: MS.relatime }],
  ["strictatime", { set: MS.strictAtime }],
  ["nostrictatime", { clear: MS.strictAtime }],
  ["bind", { set: MS.bind }],
  ["rbind", { set: MS.bind | MS.recursive }],
]);

/** Words that ask for what is not done here. */
const UNSUPPORTED = ["loop", "uidmap", "gidmap"];

/** A mount as mount(2) wants it. */
export interface ParsedMount {
  /** Kind of the mount. */
  readonly type: "overlay" | "bind" | "tmpfs";
  /** What is mounted; only a name for an overlay and for a file system in memory. */
  readonly source: string;
  /** {@link MS} flags. */
  readonly flags: number;
  /** What the file system itself understands, such as `lowerdir=/a`. */
  readonly data: readonly string[];
}

/**
 * Reads the options of a mount.
 *
 * @param mount As the snapshotter describes it.
 * @throws {SandboxError} `InvalidArgument` for a type or an option that is not supported.
 */
export function parseMount(mount: RootfsMount): ParsedMount {
  const { type, source } = mount;
  if (type !== "overlay" && type !== "bind" && type !== "tmpfs") {
    throw new SandboxError(
      "InvalidArgument",
      `cannot mount a root file system of type "${type}": expected overlay or bind: ` +
        "use the overlayfs or the native snapshotter",
    );
  }
  let flags = type === "bind" ? MS.bind : 0;
  const data: string[] = [];
  for (const option of mount.options) {
    const word = WORDS.get(option);
    const [name = ""] = option.split("=", 1);
    if (word !== undefined) {
      flags = (flags & ~(word.clear ?? 0)) | (word.set ?? 0);
    } else if (UNSUPPORTED.includes(name)) {
      throw new SandboxError(
        "InvalidArgument",
        `cannot mount a root file system with the option "${option}": it is not supported`,
      );
    } else {
      data.push(option);
    }
  }
  if (type === "bind" && data.length > 0) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot mount "${source}": unknown options for a bind mount: ${data.join(",")}`,
    );
  }
  return { type, source, flags, data };
}

/**
 * Splits the value of `lowerdir=` at its colons; a backslash takes the meaning off the next
 * character.
 *
 * @returns Paths without backslashes.
 */
export function splitLayers(value: string): string[] {
  const layers = [""];
  for (let i = 0; i < value.length; i++) {
    const character = value[i] ?? "";
    if (character === ":") {
      layers.push("");
      continue;
    }
    if (character === "\\") i++;
    layers[layers.length - 1] += character === "\\" ? value[i] ?? "" : character;
  }
  return layers.filter((layer) => layer !== "");
}
