/**
 * What may be seen of the lifecycle's state from outside: immutable snapshots.
 *
 * @module
 */

import type { ContainerSpec, Exit, ResourceSpec, SandboxSpec, StdioSpec } from "./spec.ts";

/** A sandbox as it is now. */
export interface SandboxView {
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** The state. */
  readonly state: "created" | "starting" | "ready" | "stopping" | "stopped" | "failed";
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  /** 0 unless it runs as a process of its own. */
  readonly pid: number;
  /** Where its tasks are called while it runs; missing for the sandboxer's own socket. */
  readonly taskSocket?: string;
  /** Set once it is stopped or failed. */
  readonly exit?: Exit;
  /** Its containers. */
  readonly containerIds: readonly string[];
}

/** A container as it is now. */
export interface ContainerView {
  /** What was asked for. */
  readonly spec: ContainerSpec;
  /** The containerd namespace of its sandbox. */
  readonly namespace: string;
  /** The state. */
  readonly state: "created" | "running" | "paused" | "stopped";
  /** Its limits: those of the specification, or of the last update. */
  readonly resources: ResourceSpec;
  /** Its execs, without the init process. */
  readonly execIds: readonly string[];
}

/** A process as it is now. */
export interface ProcessView {
  /** The container it is in. */
  readonly containerId: string;
  /** Empty for the init process. */
  readonly execId: string;
  /** The state, by the names of the Task API. */
  readonly state: "created" | "running" | "paused" | "stopped";
  /** 0 before it was started. */
  readonly pid: number;
  /** Command and arguments. */
  readonly args: readonly string[];
  /** Where its streams go. */
  readonly stdio: StdioSpec;
  /** Set once it has ended. */
  readonly exit?: Exit;
}
