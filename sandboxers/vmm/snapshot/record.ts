/**
 * What a snapshot of a sandbox says of itself, in the file `sandbox.json` of its directory: the
 * sandbox, and the containers that run in its memory. It is written last, so that a directory
 * without it is no snapshot. Beside it are the saved machine, and an image for each container.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json, ResourceSpec } from "../../lifecycle/spec.ts";
import { readSnapshotFile, SNAPSHOT_FILE, writeSnapshotFile } from "../../snapshot_file.ts";
import { Members } from "../qemu/record.ts";

/** The version of what is in it. */
const VERSION = 1;
/** Most containers of a snapshot. */
const CONTAINERS_MAX = 1_000;
/** Names of images: nothing outside of the directory. */
const IMAGE_NAME = /^disk-\d{1,4}$/;

/** A sandbox in a snapshot. */
export interface SnapshotRecord {
  /** Its hostname; empty for the default. */
  readonly hostname: string;
  /** Its network. */
  readonly network: "none" | "user";
  /** The CPUs of its machine. */
  readonly cpus: number;
  /** Its limits. */
  readonly resources: ResourceSpec;
  /** Its containers, in the order in which they were made. */
  readonly containers: readonly SnapshotContainer[];
}

/** A container in a snapshot. */
export interface SnapshotContainer {
  /** The id that it had. */
  readonly id: string;
  /** The name that its guest knows it by. */
  readonly name: string;
  /** The command of its first process. */
  readonly command: readonly string[];
  /** The image of its root file system: a file of the directory. */
  readonly image: string;
  /** The serial number of the disk that it is on. */
  readonly serial: string;
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
  /** Whether it has a terminal. */
  readonly terminal: boolean;
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
  await writeSnapshotFile(directory, { version: VERSION, ...record });
}

/**
 * Reads what a snapshot says of itself.
 *
 * @param directory Its directory.
 * @throws {SandboxError} `NotFound` where there is no snapshot; `FailedPrecondition` where it is
 *   damaged or of another version, naming what is wrong.
 */
export async function readSnapshotRecord(directory: string): Promise<SnapshotRecord> {
  const action = `cannot use the snapshot in "${directory}"`;
  const text = await readSnapshotFile(directory, action);
  try {
    return parse(JSON.parse(text));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new SandboxError("FailedPrecondition", `${action}: ${SNAPSHOT_FILE}: ${reason}`, {
      cause: error,
    });
  }
}

function parse(value: Json): SnapshotRecord {
  const root = new Members(value, SNAPSHOT_FILE);
  const version = root.number("version");
  if (version !== VERSION) throw new Error(`version ${version}, expected ${VERSION}`);
  const containers = root.list("containers");
  if (containers.length > CONTAINERS_MAX) {
    throw new Error(`${containers.length} containers, at most ${CONTAINERS_MAX} are expected`);
  }
  const ids = new Set<string>();
  for (const container of containers) {
    const id = container.text("id");
    if (ids.has(id)) throw new Error(`two containers have the id "${id}"`);
    ids.add(id);
  }
  return {
    hostname: root.text("hostname"),
    network: root.oneOf("network", ["none", "user"]),
    cpus: root.number("cpus"),
    resources: parseResources(root.object("resources")),
    containers: containers.map(parseContainer),
  };
}

function parseResources(resources: Members): ResourceSpec {
  const names = ["memoryBytes", "cpuQuotaUs", "cpuPeriodUs"] as const;
  const found = names.filter((name) => resources.json(name) !== null);
  return Object.fromEntries(found.map((name) => [name, resources.number(name)]));
}

function parseContainer(container: Members): SnapshotContainer {
  const image = container.text("image");
  if (!IMAGE_NAME.test(image)) throw new Error(`image "${image}", expected a name like "disk-0"`);
  const streams = container.object("streams");
  return {
    id: container.text("id"),
    name: container.text("name"),
    command: parseCommand(container.json("command")),
    image,
    serial: container.text("serial"),
    streams: {
      stdin: streams.flag("stdin"),
      stdout: streams.flag("stdout"),
      stderr: streams.flag("stderr"),
      terminal: streams.flag("terminal"),
    },
  };
}

function parseCommand(value: Json): string[] {
  const words = Array.isArray(value) ? value : [];
  const command = words.filter((word) => typeof word === "string");
  if (command.length > 0 && command.length === words.length) return command;
  throw new Error(`command ${JSON.stringify(value)}, expected a list of words`);
}
