/**
 * What is kept on disk of a sandbox: what the next sandboxer process needs to take it over or to
 * clean up after it, and nothing else.
 *
 * @module
 */

import type { Container } from "./container.ts";
import { SandboxError } from "./errors.ts";
import type { Process } from "./process.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ContainerSpec, ExecSpec, Exit, Json, SandboxSpec } from "./spec.ts";

/** The version of the format; a record of another version is not read. */
export const RECORD_VERSION = 1;

/** A process in a record. */
export interface ProcessRecord {
  /** Empty for the init process. */
  readonly execId: string;
  /** Missing for the init process. */
  readonly exec?: ExecSpec;
  readonly state: "created" | "running" | "exited";
  readonly pid: number;
  readonly exit?: Exit;
}

/** A container in a record. */
export interface ContainerRecord {
  readonly spec: ContainerSpec;
  /** `creating`: written before its root file system is mounted, so that a crash can be undone. */
  readonly state: "creating" | "created" | "running" | "paused" | "stopped";
  /** The driver's own notes, see `ContainerHandle.record`. */
  readonly driver: Json;
  readonly processes: readonly ProcessRecord[];
}

/** A sandbox with its containers, as it is stored. */
export interface SandboxRecord {
  readonly version: typeof RECORD_VERSION;
  readonly spec: SandboxSpec;
  readonly createdAt: number;
  readonly state: "created" | "starting" | "ready" | "stopping" | "stopped" | "failed";
  readonly exit?: Exit;
  /** The driver's own notes, see `SandboxHandle.record`. */
  readonly driver: Json;
  readonly containers: readonly ContainerRecord[];
}

/** The record of a sandbox as it is now; `creating` are containers that are being made. */
export function recordOf(sandbox: Sandbox, creating: readonly ContainerSpec[]): SandboxRecord {
  const { state } = sandbox;
  const handle = "handle" in state ? state.handle : undefined;
  return {
    version: RECORD_VERSION,
    spec: sandbox.spec,
    createdAt: sandbox.createdAt,
    state: state.kind,
    ...("exit" in state ? { exit: state.exit } : {}),
    driver: handle?.record ?? null,
    containers: [
      ...[...sandbox.containers.values()].map(containerRecord),
      ...creating.map((spec): ContainerRecord => ({
        spec,
        state: "creating",
        driver: null,
        processes: [],
      })),
    ],
  };
}

function containerRecord(container: Container): ContainerRecord {
  return {
    spec: container.spec,
    state: container.state.kind,
    driver: container.state.handle?.record ?? null,
    processes: [...container.processes()].map(processRecord),
  };
}

function processRecord(process: Process): ProcessRecord {
  const { state } = process;
  return {
    execId: process.execId,
    ...(process.exec === undefined ? {} : { exec: process.exec }),
    state: state.kind,
    pid: state.kind === "created" ? 0 : state.pid,
    ...(state.kind === "exited" ? { exit: state.exit } : {}),
  };
}

/**
 * Reads a record back.
 *
 * @param text JSON as it was written.
 * @throws SandboxError `DataLoss` when it is not a record of this version.
 */
export function parseRecord(text: string): SandboxRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SandboxError("DataLoss", "cannot read sandbox record: not JSON", { cause });
  }
  if (!isRecord(value)) {
    throw new SandboxError(
      "DataLoss",
      `cannot read sandbox record: not a record of version ${RECORD_VERSION}`,
    );
  }
  return value;
}

/**
 * Whether a parsed value is a record. Records are written by this program into a root-only directory
 * with an atomic rename: the outline is checked, not each field.
 */
function isRecord(value: unknown): value is SandboxRecord {
  return typeof value === "object" && value !== null &&
    "version" in value && value.version === RECORD_VERSION &&
    "spec" in value && typeof value.spec === "object" && value.spec !== null &&
    "id" in value.spec && typeof value.spec.id === "string" &&
    "state" in value && typeof value.state === "string" &&
    "containers" in value && Array.isArray(value.containers);
}
