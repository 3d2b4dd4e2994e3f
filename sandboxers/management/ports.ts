/**
 * What the management API is made of: the lifecycle, the places and facts of the process, and what a
 * kind of sandbox can do beyond its driver. The parts that make sandboxes (`runs/`) and the parts
 * that show them meet here.
 *
 * @module
 */

import type { Management } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { ServiceHandlers } from "../../proto/grpc_service.ts";
import type { Sandboxer } from "../lifecycle/sandboxer.ts";
import type { Json, SandboxSpec } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import type { Telemetry } from "../telemetry/telemetry.ts";
import type { RunAbilities, SnapshotAbilities } from "./runs/abilities.ts";

/** The namespace of sandboxes that are made through this API. */
export const MANAGED_NAMESPACE = "quasaur";

/**
 * The annotation that says that a sandbox was made through this API; its value is `true`. Kinds read
 * annotations that begin with `quasaur.dev/`: this is none of theirs.
 */
export const MANAGED_ANNOTATION = "management.quasaur.dev/managed";

/** Whether a sandbox was made through this API, and so is no concern of containerd's. */
export function isManaged(spec: SandboxSpec): boolean {
  return spec.namespace === MANAGED_NAMESPACE && spec.annotations[MANAGED_ANNOTATION] === "true";
}

/**
 * What a kind of sandbox adds to the API. All of it is optional: a call for what is missing is
 * answered with `Unimplemented`.
 */
export interface KindAbilities {
  /** Facts for people, such as the engine's version; values are never secret. */
  readonly details?: () => Readonly<Record<string, string>>;
  /** What sandboxes that are made without containerd need; without it none can be. */
  readonly runs?: RunAbilities;
  /** Saves running sandboxes with their memory, and makes sandboxes of that. */
  readonly snapshots?: SnapshotAbilities;
}

/** What the composition of a kind gives where a lifecycle alone does not do. */
export interface Composed {
  /** The lifecycle, with the driver of the kind. */
  readonly sandboxer: Sandboxer;
  /** What the kind adds. */
  readonly abilities: KindAbilities;
}

/** What all parts of the management API are given. */
export interface ManagementPorts {
  /** The lifecycle: the one place of state, and what does everything. */
  readonly sandboxer: Sandboxer;
  /** The state directory, an absolute path. */
  readonly dir: string;
  /** The root log of the process; its level can be changed. */
  readonly log: Log;
  /** The version of the program. */
  readonly version: string;
  /** When the process began to serve, in milliseconds since the epoch. */
  readonly startedAt: number;
  /** What the kind adds. */
  readonly abilities: KindAbilities;
  /** Where Prometheus' text is served; missing where it is not. */
  readonly metricsAddress?: string;
  /** Hears of every call that was answered; missing for nobody. */
  readonly telemetry?: Pick<Telemetry, "answered">;
}

/**
 * All methods of the management API; see `ServiceHandler` for how each is called (unary: a function
 * that returns a promise; a stream of answers: an async generator; both ways: an async generator that
 * is given an async iterable). The call that they are given has a `signal`.
 */
export type ManagementHandlers = ServiceHandlers<typeof Management>;

/** The methods that `runs/` does: they make sandboxes, or need what was kept when one was made. */
export type RunMethods = Pick<
  ManagementHandlers,
  "run" | "attach" | "logs" | "snapshot" | "restore"
>;

/**
 * Sandboxes that were made through this API. `runs/handlers.ts` exports
 * `runHandlers(ports: ManagementPorts): Runs`.
 */
export interface Runs extends AsyncDisposable {
  /** What they are called with. */
  readonly handlers: RunMethods;
  /**
   * Takes up what an earlier process left: logs that go on, streams, directories of what is gone.
   * Called once, after the lifecycle has recovered and before anything listens.
   */
  recover(): Promise<void>;
  /** Cleans up after a sandbox of theirs that was deleted; for another one it does nothing. */
  forget(sandboxId: string): Promise<void>;
  /** What is known of a sandbox of theirs, for people; undefined for another one. */
  detail(sandboxId: string): Json | undefined;
}
