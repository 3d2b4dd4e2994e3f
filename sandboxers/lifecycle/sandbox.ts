/**
 * The state machine of a sandbox: `created -> starting -> ready -> stopping -> stopped`, with
 * `starting -> failed` for one that could not be started and `ready -> stopped` for one that ended
 * by itself.
 *
 * @module
 */

import type { SandboxHandle } from "./driver.ts";
import { SandboxError } from "./errors.ts";
import type { Container } from "./container.ts";
import { Serial } from "./serial.ts";
import type { Exit, SandboxSpec } from "./spec.ts";
import { Waiters } from "./waiters.ts";

/** Known, not started. */
export interface SandboxCreated {
  readonly kind: "created";
}

/** The driver is starting it; aborting `abort` cuts that short. */
export interface SandboxStarting {
  readonly kind: "starting";
  readonly abort: AbortController;
}

/** Containers can be created in it. */
export interface SandboxReady {
  readonly kind: "ready";
  readonly handle: SandboxHandle;
}

/** The driver is stopping it; where that failed it can be stopped again. */
export interface SandboxStopping {
  readonly kind: "stopping";
  readonly handle: SandboxHandle;
}

/** Ended. */
export interface SandboxStopped {
  readonly kind: "stopped";
  readonly exit: Exit;
}

/** Could not be started; the handle is there when undoing the start failed, to try once more. */
export interface SandboxFailed {
  readonly kind: "failed";
  readonly error: SandboxError;
  readonly exit: Exit;
  readonly handle: SandboxHandle | undefined;
}

/** Every state of a sandbox. */
export type SandboxState =
  | SandboxCreated
  | SandboxStarting
  | SandboxReady
  | SandboxStopping
  | SandboxStopped
  | SandboxFailed;

/** `created -> starting`. */
export function sandboxStarting(_from: SandboxCreated): SandboxStarting {
  return { kind: "starting", abort: new AbortController() };
}

/** `starting -> ready`; also how recovery brings an adopted sandbox back. */
export function sandboxReady(_from: SandboxStarting, handle: SandboxHandle): SandboxReady {
  return { kind: "ready", handle };
}

/** `starting -> failed`. */
export function sandboxFailed(
  _from: SandboxStarting,
  error: SandboxError,
  at: number,
  handle: SandboxHandle | undefined,
): SandboxFailed {
  const exit: Exit = { status: 255, at, reason: "lost", message: error.message };
  return { kind: "failed", error, exit, handle };
}

/** `ready -> stopping`. */
export function sandboxStopping(from: SandboxReady): SandboxStopping {
  return { kind: "stopping", handle: from.handle };
}

/** `created | ready | stopping -> stopped`. */
export function sandboxStopped(
  _from: SandboxCreated | SandboxReady | SandboxStopping,
  exit: Exit,
): SandboxStopped {
  return { kind: "stopped", exit };
}

/** The cell that holds a sandbox's current state and its containers. */
export class Sandbox {
  /** The one mutable thing: the current state. */
  state: SandboxState = { kind: "created" };
  /** Its containers by id. */
  readonly containers = new Map<string, Container>();
  /** Those who wait for it to end. */
  readonly exits = new Waiters<Exit>();
  /** State changes of this sandbox, one after the other. */
  readonly queue = new Serial();
  /** Aborted when the sandbox is stopped: containers that are being made are given up. */
  readonly life = new AbortController();
  /** Containers that are being made: what a stop has to wait for. */
  readonly making = new Set<Promise<unknown>>();
  /** Set once it is deleted; operations that waited for their turn then find nothing. */
  deleted = false;

  /**
   * @param spec What was asked for.
   * @param createdAt Milliseconds since the epoch.
   */
  constructor(readonly spec: SandboxSpec, readonly createdAt: number) {}

  /** What to call it in messages. */
  get label(): string {
    return `sandbox "${this.spec.id}"`;
  }

  /** The error for an operation that this state does not allow. */
  wrongState(action: string, expected: string): SandboxError {
    return new SandboxError(
      "FailedPrecondition",
      `cannot ${action} ${this.label}: it is ${this.state.kind}, expected ${expected}`,
    );
  }

  /**
   * The handle, if the sandbox is ready.
   *
   * @throws SandboxError `FailedPrecondition`
   */
  mustBeReady(action: string): SandboxHandle {
    if (this.state.kind === "ready") return this.state.handle;
    throw this.wrongState(action, "ready");
  }
}
