/**
 * The state machine of a container: `created -> running <-> paused -> stopped`. It follows its init
 * process: it runs when that was started and is stopped when that has exited.
 *
 * @module
 */

import type { ContainerHandle } from "./driver.ts";
import { SandboxError } from "./errors.ts";
import { Process } from "./process.ts";
import { Serial } from "./serial.ts";
import type { ContainerSpec, ResourceSpec } from "./spec.ts";

/** Ready to start. */
export interface ContainerCreated {
  /** The state. */
  readonly kind: "created";
  /** The driver's. */
  readonly handle: ContainerHandle;
}

/** Its init process runs. */
export interface ContainerRunning {
  /** The state. */
  readonly kind: "running";
  /** The driver's. */
  readonly handle: ContainerHandle;
}

/** All its processes are frozen. */
export interface ContainerPaused {
  /** The state. */
  readonly kind: "paused";
  /** The driver's. */
  readonly handle: ContainerHandle;
}

/** Its init process has ended. The handle is missing where it died with an earlier sandboxer. */
export interface ContainerStopped {
  /** The state. */
  readonly kind: "stopped";
  /** The driver's, to be released. */
  readonly handle: ContainerHandle | undefined;
}

/** Every state of a container. */
export type ContainerState =
  | ContainerCreated
  | ContainerRunning
  | ContainerPaused
  | ContainerStopped;

/** `created -> running`. */
export function containerRunning(from: ContainerCreated): ContainerRunning {
  return { kind: "running", handle: from.handle };
}

/** `running -> paused`. */
export function containerPaused(from: ContainerRunning): ContainerPaused {
  return { kind: "paused", handle: from.handle };
}

/** `paused -> running`. */
export function containerResumed(from: ContainerPaused): ContainerRunning {
  return { kind: "running", handle: from.handle };
}

/** `created | running | paused -> stopped`. */
export function containerStopped(
  from: ContainerCreated | ContainerRunning | ContainerPaused,
): ContainerStopped {
  return { kind: "stopped", handle: from.handle };
}

/** The cell that holds a container's current state and its processes. */
export class Container {
  /** Its init process. */
  readonly init: Process;
  /** Its other processes by exec id. */
  readonly execs = new Map<string, Process>();
  /** State changes of this container, one after the other. */
  readonly queue = new Serial();
  /** Its limits now: those that were asked for, or of the last update. */
  resources: ResourceSpec;
  /** Set once it is deleted; operations that waited for their turn then find nothing. */
  deleted = false;

  /**
   * A container with an init process that was not started.
   *
   * @param spec What was asked for.
   * @param state Its first state: created, or what recovery found.
   */
  constructor(readonly spec: ContainerSpec, public state: ContainerState) {
    this.init = new Process("", spec.stdio, undefined);
    this.resources = spec.resources;
  }

  /** Its init process and its execs. */
  *processes(): Iterable<Process> {
    yield this.init;
    yield* this.execs.values();
  }

  /**
   * One of its processes.
   *
   * @param execId Empty for the init process.
   * @throws SandboxError `NotFound`
   */
  process(execId: string): Process {
    const process = execId === "" ? this.init : this.execs.get(execId);
    if (process !== undefined) return process;
    throw new SandboxError(
      "NotFound",
      `exec "${execId}" of container "${this.spec.id}" not found`,
    );
  }

  /**
   * Refuses to go on with a container that was deleted while the caller waited for its turn.
   *
   * @throws SandboxError `NotFound` where the container was deleted while the caller waited.
   */
  mustExist(): void {
    if (!this.deleted) return;
    throw new SandboxError("NotFound", `container "${this.spec.id}" not found`);
  }

  /**
   * The error for an operation that this state does not allow.
   *
   * @param action What was asked for, such as `pause`.
   * @param expected The state in which it is allowed.
   */
  wrongState(action: string, expected: string): SandboxError {
    return new SandboxError(
      "FailedPrecondition",
      `cannot ${action} container "${this.spec.id}": it is ${this.state.kind}, expected ${expected}`,
    );
  }
}
