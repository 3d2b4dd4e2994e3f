/**
 * What a snapshot of a gVisor sandbox says of itself, in the file `sandbox.json` of its directory. It
 * is written last, so that a directory without it is no snapshot. Beside it is what runsc saved: the
 * memory of the sandbox, with all its processes and with what they wrote to file systems in memory.
 *
 * @module
 */

import { SandboxError } from "../../../lifecycle/errors.ts";
import type { Json, ResourceSpec } from "../../../lifecycle/spec.ts";
import {
  isObject,
  type JsonObject,
  numberOf,
  objectOf,
  objectsOf,
  parseJsonObject,
  stringOf,
  stringsOf,
} from "../../../oci/json.ts";
import { readSnapshotFile, SNAPSHOT_FILE, writeSnapshotFile } from "../../../snapshot_file.ts";

const VERSION = 1;
/** Most containers of a snapshot. */
const CONTAINERS_MAX = 1_000;
/** Limits that are kept. */
const LIMITS = ["memoryBytes", "cpuQuotaUs", "cpuPeriodUs"] as const;

/** A sandbox in a snapshot. */
export interface SnapshotRecord {
  /** The version of the runsc that saved it: another one cannot read it. */
  readonly runsc: string;
  /** Where writes to root file systems went: see `RunscOptions.overlay`. */
  readonly overlay: string;
  /** Its hostname; empty for the default. */
  readonly hostname: string;
  /** Its limits. */
  readonly resources: ResourceSpec;
  /** Its containers, in the order in which they were made. */
  readonly containers: readonly SnapshotContainer[];
}

/** A container in a snapshot. */
export interface SnapshotContainer {
  /** The id that it had. */
  readonly id: string;
  /** The name by which it is known in the saved memory. */
  readonly name: string;
  /** The command of its first process. */
  readonly command: readonly string[];
  /** Its root file system: a directory of the host, which nobody writes to. */
  readonly rootfs: string;
  /** Whether it may not write to that, not even in memory. */
  readonly readonlyRootfs: boolean;
  /** Its limits. */
  readonly resources: ResourceSpec;
  /** Which streams its first process has. */
  readonly streams: SnapshotStreams;
}

/** The streams of a process in a snapshot. */
export interface SnapshotStreams {
  /** Whether it reads something. */
  readonly stdin: boolean;
  /** Whether its output goes anywhere. */
  readonly stdout: boolean;
  /** The same for its standard error. */
  readonly stderr: boolean;
}

/** What of limits is kept in a snapshot. */
export function keptLimits(resources: ResourceSpec): ResourceSpec {
  return Object.fromEntries(
    LIMITS.flatMap((name) => resources[name] === undefined ? [] : [[name, resources[name]]]),
  );
}

/**
 * Writes what a snapshot says of itself.
 *
 * @param directory Its directory.
 * @throws {SandboxError} `ResourceExhausted` where the disk is full.
 */
export async function writeSnapshotRecord(
  directory: string,
  record: SnapshotRecord,
): Promise<void> {
  await writeSnapshotFile(directory, { version: VERSION, kernel: "gvisor", ...record });
}

/**
 * Reads what a snapshot says of itself.
 *
 * @param directory Its directory.
 * @throws {SandboxError} `NotFound` where there is no snapshot; `FailedPrecondition` where it is
 *   damaged or none of gVisor, naming what is wrong.
 */
export async function readSnapshotRecord(directory: string): Promise<SnapshotRecord> {
  const action = `cannot use the snapshot in "${directory}"`;
  const text = await readSnapshotFile(directory, action);
  try {
    return parse(parseJsonObject(text, SNAPSHOT_FILE));
  } catch (error) {
    const { message } = SandboxError.from(error);
    throw new SandboxError("FailedPrecondition", `${action}: ${message}`, { cause: error });
  }
}

function parse(root: JsonObject): SnapshotRecord {
  const version = numberOf(root, "version");
  if (stringOf(root, "kernel") !== "gvisor" || version !== VERSION) {
    throw bad(
      "kernel and version",
      [root["kernel"] ?? null, version ?? null],
      `gvisor, ${VERSION}`,
    );
  }
  const containers = objectsOf(root, "containers");
  if (containers.length > CONTAINERS_MAX) {
    throw bad("containers", containers.length, `at most ${CONTAINERS_MAX}`);
  }
  const all = containers.map(parseContainer);
  for (const field of ["id", "name"] as const) {
    const found = new Set(all.map((container) => container[field]));
    if (found.size < all.length) throw bad(`containers.${field}`, all.length, "one for each");
  }
  return {
    runsc: wordOf(root, "runsc"),
    overlay: wordOf(root, "overlay"),
    hostname: stringOf(root, "hostname"),
    resources: limitsOf(root),
    containers: all,
  };
}

function parseContainer(container: JsonObject): SnapshotContainer {
  const rootfs = wordOf(container, "rootfs");
  if (!rootfs.startsWith("/")) throw bad("rootfs", rootfs, "an absolute path");
  const command = stringsOf(container, "command");
  if (command.length === 0) throw bad("command", container["command"] ?? null, "a list of words");
  const streams = objectOf(container, "streams");
  return {
    id: wordOf(container, "id"),
    name: wordOf(container, "name"),
    command,
    rootfs,
    readonlyRootfs: flagOf(container, "readonlyRootfs"),
    resources: limitsOf(container),
    streams: {
      stdin: flagOf(streams, "stdin"),
      stdout: flagOf(streams, "stdout"),
      stderr: flagOf(streams, "stderr"),
    },
  };
}

function limitsOf(parent: JsonObject): ResourceSpec {
  const found = parent["resources"];
  if (!isObject(found)) throw bad("resources", found ?? null, "an object");
  return Object.fromEntries(LIMITS.flatMap((name) => {
    const value = found[name];
    if (value === undefined) return [];
    if (typeof value !== "number" || !(value > 0)) throw bad(name, value, "a number above 0");
    return [[name, value]];
  }));
}

function flagOf(parent: JsonObject, name: string): boolean {
  const value = parent[name];
  if (typeof value === "boolean") return value;
  throw bad(name, value ?? null, "true or false");
}

function wordOf(parent: JsonObject, name: string): string {
  const value = parent[name];
  if (typeof value === "string" && value !== "") return value;
  throw bad(name, value ?? null, "a word");
}

function bad(name: string, found: Json, expected: string): SandboxError {
  const text = JSON.stringify(found).slice(0, 100);
  return new SandboxError(
    "FailedPrecondition",
    `${SNAPSHOT_FILE}: ${name} is ${text}, expected ${expected}`,
  );
}
