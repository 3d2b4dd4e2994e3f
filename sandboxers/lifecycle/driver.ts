/**
 * What a kind of sandbox implements. A driver gives effects, not state: it starts and stops things
 * and says when they ended; which state they are in is the lifecycle's to know.
 *
 * Rules for every call: it finishes or fails in bounded time, one with a signal at the latest once
 * that is aborted; a call that fails leaves nothing behind, except that a `stop` or `delete` that
 * failed is called again. `stop` and `delete` may be called more than once.
 *
 * @module
 */

import type {
  ContainerSpec,
  ExecSpec,
  Exit,
  Json,
  ResourceSpec,
  SandboxSpec,
  Stats,
} from "./spec.ts";

/** Abilities that not every kind has. The lifecycle answers `Unimplemented` where one is false. */
export interface Capabilities {
  /** More processes in a running container. */
  readonly exec: boolean;
  /** Freeze and thaw a container. */
  readonly pause: boolean;
  /** Change the limits of a running container. */
  readonly updateContainer: boolean;
  /** Change the limits of a running sandbox. */
  readonly updateSandbox: boolean;
  /** Processes with a terminal. */
  readonly terminal: boolean;
}

/** A kind of sandbox. */
export interface Driver {
  /** `wasm`, `vmm` or `quark`; also the name in logs and metrics. */
  readonly kind: string;
  /** What the kind can do beyond the least. */
  readonly capabilities: Capabilities;
  /**
   * Starts a sandbox.
   *
   * @param spec The sandbox; already validated.
   * @param signal Aborted when the caller gave up; the driver undoes what it did and throws.
   */
  start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle>;
  /**
   * Takes a sandbox over from an earlier sandboxer process. Where this throws, nothing has changed:
   * it is called again before the sandbox is deleted.
   *
   * @param sandbox What the store says of it.
   * @returns The sandbox and those of its containers that still run, or undefined when it is gone;
   *   then the driver has removed what was left of it.
   */
  adopt(sandbox: AdoptableSandbox): Promise<AdoptedSandbox | undefined>;
  /** Refuses a container or exec that this kind can never run, before anything is done for it. */
  validate?(spec: ContainerSpec): void;
  /**
   * Called once after the last {@link Driver.adopt} of a start, before anything new is asked for:
   * what is there now and belongs to no sandbox is nobody's.
   */
  recovered?(): Promise<void>;
  /**
   * Has somebody hear when callers of containers have lost their connections for good (see
   * {@link SandboxHandle.taskSocket}): they have given those containers up and will not come back.
   *
   * @param listener Called each time; also right away, where it happened before this process.
   */
  onCallersLost?(listener: () => void): void;
  /**
   * Called once when the process is about to leave. Sandboxes that outlive it are left as they are;
   * what is kept for later ones is given up.
   */
  leave?(): Promise<void>;
}

/**
 * What recovery knows of a sandbox: its spec and what its handle left in `record`. A record is null
 * where the earlier process ended before it could store it: then only the spec says what to look for.
 */
export interface AdoptableSandbox {
  /** The sandbox as it was asked for. */
  readonly spec: SandboxSpec;
  /** What its handle left; null where nothing was stored. */
  readonly record: Json;
  /** Its containers. */
  readonly containers: readonly AdoptableContainer[];
}

/** What recovery knows of a container. */
export interface AdoptableContainer {
  /** The container as it was asked for. */
  readonly spec: ContainerSpec;
  /** What its handle left; null where nothing was stored. */
  readonly record: Json;
  /** Its execs as they were asked for; missing for none. */
  readonly execs?: readonly ExecSpec[];
}

/** A sandbox that was taken over. Containers that are not in the map are dead and released. */
export interface AdoptedSandbox {
  /** The sandbox. */
  readonly handle: SandboxHandle;
  /** Its containers that are not dead, by id. */
  readonly containers: ReadonlyMap<string, AdoptedContainer>;
}

/**
 * A container that was taken over, with its processes (init under the empty id). Without an init
 * process it was never started; one that ended while nobody watched is either given all the same,
 * and its `exited` settles at once, or its whole container is dead.
 */
export interface AdoptedContainer {
  /** The container. */
  readonly handle: ContainerHandle;
  /** Whether it is frozen; where the driver cannot tell, the store's word is taken. */
  readonly paused?: boolean;
  /** By exec id, the init process under the empty one. */
  readonly processes: ReadonlyMap<string, ProcessHandle>;
}

/** A started sandbox. */
export interface SandboxHandle {
  /** A process id that names the sandbox; 0 where the sandbox is not a process of its own. */
  readonly pid: number;
  /** What {@link Driver.adopt} needs later; plain JSON. */
  readonly record: Json;
  /** Settles once, when the sandbox has ended by itself or by `stop`; never rejects. */
  readonly exited: Promise<Exit>;
  /**
   * Whether its running containers outlive the sandboxer process and can be adopted by the next one.
   * The lifecycle then stores what it tells callers before it tells them; missing for no.
   */
  readonly outlivesSandboxer?: boolean;
  /**
   * The unix socket, an absolute path, at which calls to its containers are taken in the place of the
   * sandboxer's own, so that callers keep their connections when the sandboxer is restarted. Missing
   * for the sandboxer's own.
   */
  readonly taskSocket?: string;
  /** Makes a container ready to start. Its root file system is in place. */
  createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle>;
  /** Changes limits; only called where `capabilities.updateSandbox`. */
  update?(resources: ResourceSpec): Promise<void>;
  /** What it uses now. */
  stats(): Promise<Stats>;
  /**
   * Ends the sandbox with all it holds and releases everything. `exited` settles before it returns;
   * a process whose `exited` has not settled by then is taken for lost. No container or process is
   * being made while it runs, and none is afterwards.
   *
   * @param graceMs How long its processes may take to end by themselves; 0 to kill at once.
   */
  stop(graceMs: number): Promise<void>;
}

/** A created container. */
export interface ContainerHandle {
  /** What {@link Driver.adopt} needs later; plain JSON. */
  readonly record: Json;
  /** Starts the init process. Called again only where it failed. */
  start(signal: AbortSignal): Promise<ProcessHandle>;
  /** Starts another process; only called where `capabilities.exec`. */
  exec?(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle>;
  /** Freezes the container; only called where `capabilities.pause`. */
  pause?(): Promise<void>;
  /** Thaws the container; only called where `capabilities.pause`. */
  resume?(): Promise<void>;
  /** Changes limits; only called where `capabilities.updateContainer`. */
  update?(resources: ResourceSpec): Promise<void>;
  /** Process ids (thread ids for in-process guests) that run now. */
  pids(): Promise<readonly number[]>;
  /** What it uses now; after its end, what it used. */
  stats(): Promise<Stats>;
  /** Kills what still runs and releases everything. */
  delete(): Promise<void>;
}

/** A running process. */
export interface ProcessHandle {
  /** Its process id, or thread id for an in-process guest. */
  readonly pid: number;
  /** Settles once, when the process has ended and its output is written out; never rejects. */
  readonly exited: Promise<Exit>;
  /** Sends a signal by number (signal(7)). After the exit it does nothing. */
  kill(signal: number): Promise<void>;
  /** Sets the terminal's size in characters. */
  resize?(columns: number, rows: number): Promise<void>;
  /** Closes the process's standard input. */
  closeStdin(): Promise<void>;
}
