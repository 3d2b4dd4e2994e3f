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
import type { ContainerSpec, ExecSpec, Exit, Json, ResourceSpec, SandboxSpec } from "./spec.ts";

/**
 * The version of the format. A record of a later one is not touched: the sandboxer that wrote it knows
 * what there is to take over. There is no earlier one.
 */
export const RECORD_VERSION = 1;

const SANDBOX_STATES: readonly unknown[] = [
  "created",
  "starting",
  "ready",
  "stopping",
  "stopped",
  "failed",
] satisfies SandboxRecord["state"][];

const CONTAINER_STATES: readonly unknown[] = [
  "creating",
  "created",
  "running",
  "paused",
  "stopped",
] satisfies ContainerRecord["state"][];

/** A process in a record. */
export interface ProcessRecord {
  /** Empty for the init process. */
  readonly execId: string;
  /** Missing for the init process. */
  readonly exec?: ExecSpec;
  /** The state. */
  readonly state: "created" | "running" | "exited";
  /** 0 where it was not started. */
  readonly pid: number;
  /** Set once it has exited. */
  readonly exit?: Exit;
}

/** A container in a record. */
export interface ContainerRecord {
  /** What was asked for. */
  readonly spec: ContainerSpec;
  /** `creating`: written before its root file system is mounted, so that a crash can be undone. */
  readonly state: "creating" | "created" | "running" | "paused" | "stopped";
  /** Its limits where they were changed; missing for those of the specification. */
  readonly resources?: ResourceSpec;
  /** The driver's own notes, see `ContainerHandle.record`. */
  readonly driver: Json;
  /** Its init process and its execs. */
  readonly processes: readonly ProcessRecord[];
}

/** A sandbox with its containers, as it is stored. */
export interface SandboxRecord {
  /** See {@link RECORD_VERSION}. */
  readonly version: typeof RECORD_VERSION;
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** The state; `ready` also while that is not told yet. */
  readonly state: "created" | "starting" | "ready" | "stopping" | "stopped" | "failed";
  /** Set once it has stopped or failed. */
  readonly exit?: Exit;
  /** Whether the driver may still hold something of a sandbox that has ended. */
  readonly left: boolean;
  /** The driver's own notes, see `SandboxHandle.record`. */
  readonly driver: Json;
  /** Set while no container was ever made in it. */
  readonly fresh?: true;
  /** Its containers, those that are being made included. */
  readonly containers: readonly ContainerRecord[];
}

/** The record of a sandbox as it is now; `creating` are containers that are being made. */
export function recordOf(sandbox: Sandbox, creating: readonly ContainerSpec[]): SandboxRecord {
  const { state } = sandbox;
  const handle = "handle" in state ? state.handle : undefined;
  const left = "left" in state ? state.left : undefined;
  // What the driver has started is stored as ready before anybody is told that it is.
  const started = state.kind === "starting" && handle !== undefined;
  return {
    version: RECORD_VERSION,
    spec: sandbox.spec,
    createdAt: sandbox.createdAt,
    state: started ? "ready" : state.kind,
    ...("exit" in state ? { exit: state.exit } : {}),
    left: left !== undefined,
    driver: (handle ?? left)?.record ?? null,
    ...(sandbox.isFresh ? { fresh: true } : {}),
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
    ...(container.resources === container.spec.resources ? {} : { resources: container.resources }),
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
 * @throws SandboxError `FailedPrecondition` when a later version wrote it, `DataLoss` when it is no
 *   record of this version either.
 */
export function parseRecord(text: string): SandboxRecord {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SandboxError("DataLoss", "cannot read sandbox record: not JSON", { cause });
  }
  if (isObject(value) && typeof value.version === "number" && value.version > RECORD_VERSION) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot read sandbox record: it has version ${value.version}, this sandboxer reads version ` +
        `${RECORD_VERSION}: start the newer sandboxer again, or remove its sandboxes with it first`,
    );
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
 * with an atomic rename: what recovery walks through is checked, not each field.
 */
function isRecord(value: unknown): value is SandboxRecord {
  return isObject(value) && value.version === RECORD_VERSION && hasId(value.spec) &&
    SANDBOX_STATES.includes(value.state) && Array.isArray(value.containers) &&
    value.containers.every(isContainerRecord);
}

function isContainerRecord(value: unknown): boolean {
  return isObject(value) && hasId(value.spec) && isObject(value.spec.rootfs) &&
    CONTAINER_STATES.includes(value.state) && Array.isArray(value.processes) &&
    value.processes.every((it) => isObject(it) && typeof it.execId === "string");
}

function hasId(value: unknown): value is { readonly id: string; readonly [key: string]: unknown } {
  return isObject(value) && typeof value.id === "string";
}

function isObject(value: unknown): value is { readonly [key: string]: unknown } {
  return typeof value === "object" && value !== null;
}
