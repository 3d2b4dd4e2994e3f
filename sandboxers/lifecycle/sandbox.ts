/**
 * The state machine of a sandbox: `created -> starting -> ready -> stopping -> stopped`, with
 * `starting -> failed` for one that could not be started and `ready -> stopped` for one that ended
 * by itself.
 *
 * @module
 */

import type { Container } from "./container.ts";
import type { SandboxHandle } from "./driver.ts";
import { SandboxError } from "./errors.ts";
import { Serial } from "./serial.ts";
import { type Exit, LOST_STATUS, type SandboxSpec } from "./spec.ts";
import { Waiters } from "./waiters.ts";

/** Known, not started. */
export interface SandboxCreated {
  /** The state. */
  readonly kind: "created";
}

/** The driver is starting it; aborting `abort` cuts that short. */
export interface SandboxStarting {
  /** The state. */
  readonly kind: "starting";
  /** Cuts the start short. */
  readonly abort: AbortController;
  /** Set once the driver has started it, while the record of it is being written. */
  readonly handle: SandboxHandle | undefined;
}

/** Containers can be created in it. */
export interface SandboxReady {
  /** The state. */
  readonly kind: "ready";
  /** The driver's. */
  readonly handle: SandboxHandle;
}

/** The driver is stopping it; where that failed it can be stopped again. */
export interface SandboxStopping {
  /** The state. */
  readonly kind: "stopping";
  /** The driver's. */
  readonly handle: SandboxHandle;
}

/** What is left of a sandbox in the driver when releasing it failed: a delete tries again. */
export type Leftover = Pick<SandboxHandle, "record" | "stop">;

/** Ended. */
export interface SandboxStopped {
  /** The state. */
  readonly kind: "stopped";
  /** How it ended. */
  readonly exit: Exit;
  /** Set where something remains to be released. */
  readonly left: Leftover | undefined;
}

/** Could not be started. */
export interface SandboxFailed {
  /** The state. */
  readonly kind: "failed";
  /** Why. */
  readonly error: SandboxError;
  /** The same for those who wait. */
  readonly exit: Exit;
  /** Set where something remains to be released. */
  readonly left: Leftover | undefined;
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
  return { kind: "starting", abort: new AbortController(), handle: undefined };
}

/** The driver has started it; it stays `starting` until that is stored. */
export function sandboxStarted(from: SandboxStarting, handle: SandboxHandle): SandboxStarting {
  return { kind: "starting", abort: from.abort, handle };
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
  left: Leftover | undefined,
): SandboxFailed {
  const exit: Exit = { status: LOST_STATUS, at, reason: "lost", message: error.message };
  return { kind: "failed", error, exit, left };
}

/** `ready -> stopping`. */
export function sandboxStopping(from: SandboxReady): SandboxStopping {
  return { kind: "stopping", handle: from.handle };
}

/** `created | ready | stopping -> stopped`. */
export function sandboxStopped(
  _from: SandboxCreated | SandboxReady | SandboxStopping,
  exit: Exit,
  left?: Leftover,
): SandboxStopped {
  return { kind: "stopped", exit, left };
}

/** Nothing is left of it in the driver any more. */
export function sandboxReleased<S extends SandboxStopped | SandboxFailed>(from: S): S {
  return { ...from, left: undefined };
}

/** The cell that holds a sandbox's current state and its containers. */
export class Sandbox {
  /** The one mutable thing: the current state. */
  state: SandboxState = { kind: "created" };
  /** Its containers by id. */
  readonly containers = new Map<string, Container>();
  /** Ids of containers that are gone, but may still be in the record. */
  readonly released = new Set<string>();
  /** Those who wait for it to end. */
  readonly exits = new Waiters<Exit>();
  /** State changes of this sandbox, one after the other. */
  readonly queue = new Serial();
  /** Aborted when the sandbox is stopped: what is being made in it is given up. */
  readonly life = new AbortController();
  /** Containers and processes that the driver is making: what a stop has to wait for. */
  readonly #making = new Set<Promise<unknown>>();
  /** Set while recovery brings it back: its record on disk is truer than memory. */
  recovering = false;
  /** Whether no container was ever made in it. */
  isFresh = true;
  /**
   * Since when it is ready without anybody having asked for it, in milliseconds since the epoch; set
   * where the process that started it may have gone before it could say so.
   */
  unheardSince: number | undefined;
  /** Set once it is deleted; operations that waited for their turn then find nothing. */
  deleted = false;

  /**
   * A sandbox that was not started.
   *
   * @param spec What was asked for.
   * @param createdAt Milliseconds since the epoch.
   */
  constructor(readonly spec: SandboxSpec, readonly createdAt: number) {}

  /** Has a stop wait for something that is being made in the sandbox. */
  async make<T>(work: Promise<T>): Promise<T> {
    this.#making.add(work);
    try {
      return await work;
    } finally {
      this.#making.delete(work);
    }
  }

  /** Gives up what is being made in the sandbox, and all that would be. Returns when it is undone. */
  async giveUp(reason: SandboxError): Promise<void> {
    this.life.abort(reason);
    await Promise.allSettled(this.#making);
  }

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
   * Refuses to go on with a sandbox that was deleted while the caller waited for its turn.
   *
   * @throws SandboxError `NotFound` where the sandbox was deleted while the caller waited.
   */
  mustExist(): void {
    if (this.deleted) throw new SandboxError("NotFound", `${this.label} not found`);
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
