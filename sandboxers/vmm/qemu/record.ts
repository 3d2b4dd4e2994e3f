/**
 * What is written down of a machine so that a later process can take it over: plain JSON, checked
 * when it is read. What changes while it runs is not in it; QEMU itself is asked for that.
 *
 * @module
 */

import type { ProcessIdentity } from "../../host/launcher.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import type { MachinePlace, MachineSpec } from "../hypervisor.ts";
import type { FileIdentity } from "./own_files.ts";

/** The file that a machine's memory lives in. */
export interface MemoryFile extends FileIdentity {
  /** Where it is. */
  readonly path: string;
}

/** What is known of a machine. */
export interface MachineRecord {
  /** The VMM. */
  readonly process: ProcessIdentity;
  /** What it was made of. */
  readonly spec: MachineSpec;
  /** Where it runs. */
  readonly place: MachinePlace;
  /** The file with its memory, which goes when it ends; undefined where there is none of its own. */
  readonly memory: MemoryFile | undefined;
  /** Whether it gives unused memory back. */
  readonly balloon: boolean;
}

/** The version of the record. */
const VERSION = 1;

/** Writes a record as plain JSON. */
export function writeRecord(record: MachineRecord): Json {
  // What is undefined is not in JSON.
  return JSON.parse(JSON.stringify({ version: VERSION, ...record }));
}

/**
 * Reads a record.
 *
 * @throws {SandboxError} `FailedPrecondition` where it is none of {@link writeRecord}.
 */
export function readRecord(record: Json): MachineRecord {
  const root = new Members(record, "record");
  if (root.number("version") !== VERSION) throw unreadable("version");
  const process = root.object("process");
  const place = root.object("place");
  const user = place.optional("user");
  const memory = root.optional("memory");
  const sharedTreeSocket = place.optionalText("sharedTreeSocket");
  const memoryFile = place.optionalText("memoryFile");
  return {
    process: { pid: process.number("pid"), startTime: process.number("startTime") },
    spec: readSpec(root.object("spec")),
    place: {
      id: place.text("id"),
      directory: place.text("directory"),
      user: user === undefined ? undefined : { uid: user.number("uid"), gid: user.number("gid") },
      cgroup: place.text("cgroup"),
      sharedTreeSocket,
      ...(memoryFile === undefined ? {} : { memoryFile }),
    },
    memory: memory === undefined ? undefined : {
      path: memory.text("path"),
      device: memory.number("device"),
      inode: memory.number("inode"),
    },
    balloon: root.flag("balloon"),
  };
}

/** Reads what a machine is made of; members come in one order. */
export function readSpec(spec: Members): MachineSpec {
  return {
    machine: spec.text("machine"),
    machineOptions: spec.text("machineOptions"),
    accelerator: spec.oneOf("accelerator", ["kvm", "tcg"]),
    cpuModel: spec.text("cpuModel"),
    cpus: spec.number("cpus"),
    cpusMax: spec.number("cpusMax"),
    memoryBytes: spec.number("memoryBytes"),
    memoryMaxBytes: spec.number("memoryMaxBytes"),
    hugepages: spec.flag("hugepages"),
    kernel: spec.text("kernel"),
    initrd: spec.text("initrd"),
    kernelParams: spec.text("kernelParams"),
    entropySource: spec.text("entropySource"),
    network: spec.oneOf("network", ["tap", "user", "none"]),
    interfaces: spec.number("interfaces"),
    diskSlots: spec.number("diskSlots"),
    sharedTree: spec.flag("sharedTree"),
    console: spec.flag("console"),
  };
}

/** Reads members of a JSON object. */
export class Members {
  readonly #value: Readonly<Record<string, Json>>;

  /**
   * Takes a value apart.
   *
   * @param value Has to be an object.
   * @param name Its name, for messages.
   * @throws {SandboxError} `FailedPrecondition` where it is none.
   */
  constructor(value: Json | undefined, readonly name: string) {
    if (typeof value !== "object" || value === null || isList(value)) throw unreadable(name);
    this.#value = value;
  }

  /** A text. */
  text(name: string): string {
    const value = this.#get(name);
    if (typeof value !== "string") throw unreadable(name);
    return value;
  }

  /** A text that may be missing. */
  optionalText(name: string): string | undefined {
    return this.#get(name) === undefined ? undefined : this.text(name);
  }

  /** A whole number from 0. */
  number(name: string): number {
    const value = this.#get(name);
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
      throw unreadable(name);
    }
    return value;
  }

  /** Any value; null where it is missing. */
  json(name: string): Json {
    return this.#get(name) ?? null;
  }

  /** True or false. */
  flag(name: string): boolean {
    const value = this.#get(name);
    if (typeof value !== "boolean") throw unreadable(name);
    return value;
  }

  /** One of some texts. */
  oneOf<T extends string>(name: string, values: readonly T[]): T {
    const value = this.text(name);
    const found = values.find((candidate) => candidate === value);
    if (found === undefined) throw unreadable(name);
    return found;
  }

  /** An object. */
  object(name: string): Members {
    return new Members(this.#get(name), name);
  }

  /** An object that may be missing. */
  optional(name: string): Members | undefined {
    return this.#get(name) === undefined ? undefined : this.object(name);
  }

  /** A list of objects. */
  list(name: string): readonly Members[] {
    const value = this.#get(name);
    if (value === undefined || !isList(value)) throw unreadable(name);
    return value.map((element) => new Members(element, name));
  }

  #get(name: string): Json | undefined {
    return Object.hasOwn(this.#value, name) ? this.#value[name] : undefined;
  }
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

function unreadable(name: string): SandboxError {
  return new SandboxError(
    "FailedPrecondition",
    `cannot read what is known of a machine: "${name}" is missing or wrong`,
  );
}
