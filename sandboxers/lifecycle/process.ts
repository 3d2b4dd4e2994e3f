/**
 * The state machine of a process (a container's init, or an exec beside it):
 * `created -> running -> exited`, or `created -> exited` for one that never ran.
 *
 * @module
 */

import type { ProcessHandle } from "./driver.ts";
import { SandboxError } from "./errors.ts";
import type { ExecSpec, Exit, StdioSpec } from "./spec.ts";
import { Waiters } from "./waiters.ts";

/** Not started yet. */
export interface ProcessCreated {
  /** The state. */
  readonly kind: "created";
}

/** Running, or frozen with its container. */
export interface ProcessRunning {
  /** The state. */
  readonly kind: "running";
  /** Its process id, or thread id. */
  readonly pid: number;
  /** The driver's. */
  readonly handle: ProcessHandle;
}

/** Ended; the exit never changes again. */
export interface ProcessExited {
  /** The state. */
  readonly kind: "exited";
  /** 0 where it never ran. */
  readonly pid: number;
  /** How it ended. */
  readonly exit: Exit;
}

/** Every state of a process. */
export type ProcessState = ProcessCreated | ProcessRunning | ProcessExited;

/** `created -> running`. */
export function processRunning(_from: ProcessCreated, handle: ProcessHandle): ProcessRunning {
  return { kind: "running", pid: handle.pid, handle };
}

/** `created | running -> exited`. */
export function processExited(from: ProcessCreated | ProcessRunning, exit: Exit): ProcessExited {
  return { kind: "exited", pid: from.kind === "running" ? from.pid : 0, exit };
}

/** How recovery brings a process back that had ended. */
export function processRestored(pid: number, exit: Exit): ProcessExited {
  return { kind: "exited", pid, exit };
}

/** The cell that holds a process's current state, and those who wait for its exit. */
export class Process {
  /** The one mutable thing: the current state. */
  state: ProcessState = { kind: "created" };
  /** Set while the driver starts it; aborting it cuts the start short. */
  starting: AbortController | undefined;
  /** Whether it was started by an earlier process of ours, which may have gone before it said so. */
  isAdopted = false;
  /** Those who wait for the exit. */
  readonly exits = new Waiters<Exit>();

  /**
   * A process that was not started.
   *
   * @param execId Empty for the init process.
   * @param stdio Where its standard streams go.
   * @param exec What to run; undefined for the init process, whose container says it.
   */
  constructor(
    readonly execId: string,
    readonly stdio: StdioSpec,
    readonly exec: ExecSpec | undefined,
  ) {}

  /** What to call it in messages. */
  label(containerId: string): string {
    return this.execId === ""
      ? `container "${containerId}"`
      : `exec "${this.execId}" of container "${containerId}"`;
  }

  /**
   * The state, if the process has not been started.
   *
   * @throws SandboxError `FailedPrecondition`
   */
  mustBeCreated(action: string, containerId: string): ProcessCreated {
    if (this.state.kind === "created") return this.state;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot ${action} ${this.label(containerId)}: it is ${this.state.kind}, expected created`,
    );
  }

  /**
   * The state, if the process has ended.
   *
   * @throws SandboxError `Internal`
   */
  mustHaveExited(containerId: string): ProcessExited {
    if (this.state.kind === "exited") return this.state;
    throw new SandboxError("Internal", `${this.label(containerId)} has no exit`);
  }

  /**
   * The state, if the process runs.
   *
   * @throws SandboxError `NotFound` when it has ended (what containerd expects of a late kill),
   *   `FailedPrecondition` when it was not started.
   */
  mustBeRunning(action: string, containerId: string): ProcessRunning {
    if (this.state.kind === "running") return this.state;
    if (this.state.kind === "exited") {
      throw new SandboxError(
        "NotFound",
        `cannot ${action} ${this.label(containerId)}: process already finished`,
      );
    }
    throw new SandboxError(
      "FailedPrecondition",
      `cannot ${action} ${this.label(containerId)}: it is not started`,
    );
  }
}
