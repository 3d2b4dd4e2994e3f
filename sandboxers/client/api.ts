/**
 * A sandboxer that runs on this machine, as a program sees it: plain values, times in milliseconds
 * since the epoch. Types only.
 *
 * @module
 */

import type { Output, OutputOptions } from "../embedded/api.ts";
import type { Exit, Stats } from "../lifecycle/spec.ts";
import type { ProcessStateName, SandboxStateName } from "./state_names.ts";

/** Options of any call to a running sandboxer. */
export interface ConnectedCallOptions {
  /**
   * How long the call may take, in milliseconds. Default 20000; for ever for what streams or waits.
   */
  readonly timeoutMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
}

/** Who a sandboxer is and how much it holds. */
export interface SandboxerInfo {
  /** `wasm`, `vmm` or `quark`. */
  readonly kind: string;
  /** Its version. */
  readonly version: string;
  /** Its process. */
  readonly pid: number;
  /** When it began to serve. */
  readonly startedAt: number;
  /** Its state directory. */
  readonly stateDir: string;
  /** Below it nothing is logged. */
  readonly logLevel: string;
  /** Abilities by name, such as `exec` or `pause`. */
  readonly capabilities: Readonly<Record<string, boolean>>;
  /** How much it holds, such as `sandboxes`. */
  readonly counts: Readonly<Record<string, number>>;
  /** Facts of the kind for people. */
  readonly details: Readonly<Record<string, string>>;
  /** Where its metrics are read; empty where they are off. */
  readonly metricsAddress: string;
}

/** A sandbox as it is now. */
export interface SandboxStatus {
  /** Its id. */
  readonly id: string;
  /** Its name. */
  readonly name: string;
  /** The containerd namespace; `quasaur` where it was made without containerd. */
  readonly namespace: string;
  /** The kind of its sandboxer. */
  readonly kind: string;
  /** Its state. */
  readonly state: SandboxStateName;
  /** When it was created. */
  readonly createdAt: number;
  /** 0 unless it runs as a process of its own. */
  readonly pid: number;
  /** Set once it has ended. */
  readonly exit?: Exit;
  /** Its labels. */
  readonly labels: Readonly<Record<string, string>>;
  /** Its annotations. */
  readonly annotations: Readonly<Record<string, string>>;
  /** containerd's runtime type; empty without containerd. */
  readonly runtime: string;
  /** `host`, `none`, `user`, or the path of a network namespace. */
  readonly network: string;
  /** Its containers. */
  readonly containers: readonly ContainerStatus[];
  /** Whether it was made without containerd, and so has logs. */
  readonly managed: boolean;
}

/** A container as it is now. */
export interface ContainerStatus {
  /** Its id. */
  readonly id: string;
  /** Its name; empty for none. */
  readonly name: string;
  /** Its image; empty where it is not known. */
  readonly image: string;
  /** Its state. */
  readonly state: ProcessStateName;
  /** The process id of its first process. */
  readonly pid: number;
  /** Command and arguments. */
  readonly args: readonly string[];
  /** Whether it has a terminal. */
  readonly terminal: boolean;
  /** Set once it has ended. */
  readonly exit?: Exit;
  /** Its other processes. */
  readonly execs: readonly ProcessStatus[];
}

/** A process beside a container's first one. */
export interface ProcessStatus {
  /** Its id in its container. */
  readonly execId: string;
  /** Its state. */
  readonly state: ProcessStateName;
  /** Its process id. */
  readonly pid: number;
  /** Command and arguments. */
  readonly args: readonly string[];
  /** Set once it has ended. */
  readonly exit?: Exit;
}

/** What a target means. */
export interface FoundTarget {
  /** The sandbox, or the one that the container is in. */
  readonly sandbox: SandboxStatus;
  /** Set where the target is a container. */
  readonly containerId?: string;
  /** Everything that is known, for people; not the values of the environment. */
  readonly detail: unknown;
}

/** What has changed. */
export interface SandboxChanges {
  /** Sandboxes as they are now; at first all, in as many messages as it takes. */
  readonly sandboxes: readonly SandboxStatus[];
  /** Sandboxes that are gone. */
  readonly removedIds: readonly string[];
  /** Set in the message with the last of those that are there at first. */
  readonly complete: boolean;
}

/** Something that has happened. */
export interface SandboxerEvent {
  /** When. */
  readonly at: number;
  /** What, such as `process-exited`. */
  readonly type: string;
  /** The containerd namespace. */
  readonly namespace: string;
  /** The sandbox. */
  readonly sandboxId: string;
  /** The container; empty for none. */
  readonly containerId: string;
  /** Empty for a container's first process. */
  readonly execId: string;
  /** 0 for none. */
  readonly pid: number;
  /** Set where something has ended. */
  readonly exit?: Exit;
  /** What else is known. */
  readonly message: string;
  /** How many events were lost before this one because it was read too slowly. */
  readonly lostBefore: number;
}

/** Which events are wanted. */
export interface SandboxerEventsOptions extends ConnectedCallOptions {
  /** Also those since then, as far as they are remembered. */
  readonly since?: number;
  /** Whether to end after those that are remembered. Default false. */
  readonly noFollow?: boolean;
  /** Only of this sandbox. */
  readonly sandboxId?: string;
}

/** What a sandbox uses. */
export interface SandboxUsage {
  /** The sandbox. */
  readonly sandboxId: string;
  /** Missing where it could not be measured. */
  readonly usage?: Stats;
  /** Its containers. */
  readonly containers: readonly ContainerUsage[];
}

/** What a container uses. */
export interface ContainerUsage {
  /** The container. */
  readonly containerId: string;
  /** What it uses. */
  readonly usage: Stats;
}

/** What is measured. */
export interface SandboxerStatsOptions extends ConnectedCallOptions {
  /** Only these sandboxes; all that run unless given. */
  readonly sandboxIds?: readonly string[];
  /** How often, in milliseconds, at least 100; once unless given. */
  readonly intervalMs?: number;
}

/** A piece of what a container has written. */
export interface LogLine {
  /** When it was written. */
  readonly at: number;
  /** Where to. */
  readonly stream: "stdout" | "stderr";
  /** What, with its line feed. */
  readonly content: Uint8Array;
  /** Whether the line goes on in the next one. */
  readonly partial: boolean;
}

/** Which lines are wanted. */
export interface LogLinesOptions extends ConnectedCallOptions {
  /** Whether to go on with what is written from now on. Default false. */
  readonly follow?: boolean;
  /** Only what was written since then. */
  readonly since?: number;
  /** Only so many of the last lines. */
  readonly tail?: number;
}

/** A process to run in a container. */
export interface ConnectedExecOptions extends ConnectedCallOptions, OutputOptions {
  /** Variables beside those of the container's first process, as `NAME=value`. */
  readonly env?: readonly string[];
  /** Working directory; that of the first process unless given. */
  readonly cwd?: string;
  /** Its standard input; empty unless given. */
  readonly stdin?: Uint8Array | string;
}

/** New limits; what is missing stays as it is. */
export interface NewLimits {
  /** Memory, in bytes. */
  readonly memoryBytes?: number;
  /** CPUs, such as 0.5. */
  readonly cpus?: number;
  /** Processes and threads. */
  readonly pids?: number;
}

/**
 * A sandboxer that runs on this machine. A target is an id or a name of a sandbox or container,
 * `SANDBOX/CONTAINER`, or a unique prefix of an id. Every call throws a `SandboxError`: `NotFound` and
 * `InvalidArgument` (it fits several) for targets, `Unavailable` where the sandboxer goes away. Dispose
 * of it to close the connection.
 */
export interface RunningSandboxer extends Disposable {
  /** Its socket. */
  readonly address: string;
  /** Who it is and how much it holds. */
  info(options?: ConnectedCallOptions): Promise<SandboxerInfo>;
  /** Its sandboxes, whoever made them; only those with all of these labels where some are given. */
  list(
    labels?: Readonly<Record<string, string>>,
    options?: ConnectedCallOptions,
  ): Promise<SandboxStatus[]>;
  /** One sandbox or container in full. */
  get(target: string, options?: ConnectedCallOptions): Promise<FoundTarget>;
  /** All sandboxes now, then each one again whenever something of it has changed. */
  watch(options?: ConnectedCallOptions): AsyncGenerator<SandboxChanges>;
  /** What happens, as it happens. */
  events(options?: SandboxerEventsOptions): AsyncGenerator<SandboxerEvent>;
  /** What sandboxes and containers use, once or again and again. */
  stats(options?: SandboxerStatsOptions): AsyncGenerator<SandboxUsage[]>;
  /** What a container has written that was made without containerd. */
  logs(target: string, options?: LogLinesOptions): AsyncGenerator<LogLine>;
  /** Runs another process in a container and collects what it writes. */
  exec(target: string, args: readonly string[], options?: ConnectedExecOptions): Promise<Output>;
  /** Waits for the end of a container. */
  wait(target: string, options?: ConnectedCallOptions): Promise<Exit>;
  /** Sends a signal, by number, to a container's first process. */
  kill(target: string, signal: number, options?: ConnectedCallOptions): Promise<void>;
  /**
   * Stops a sandbox.
   *
   * @param graceMs How long its processes may take to end by themselves, in milliseconds. Default
   *   10000.
   */
  stop(target: string, graceMs?: number, options?: ConnectedCallOptions): Promise<void>;
  /** Deletes a sandbox that has ended; with `force` also one that runs, or that containerd made. */
  remove(target: string, force?: boolean, options?: ConnectedCallOptions): Promise<void>;
  /** Freezes a container, or all of a sandbox. */
  pause(target: string, options?: ConnectedCallOptions): Promise<void>;
  /** Thaws a container, or all of a sandbox. */
  resume(target: string, options?: ConnectedCallOptions): Promise<void>;
  /** Changes the limits of a container. */
  update(target: string, limits: NewLimits, options?: ConnectedCallOptions): Promise<void>;
}
