/**
 * The one orchestrator: every adapter (Sandbox API, Task API, command line, SDK) drives sandboxes,
 * containers and processes through this class, whatever kind they are. It keeps their state, calls
 * the driver, tells listeners and waiters, and writes what the next process needs. The verbs
 * themselves are in `*_operations.ts`.
 *
 * @module
 */

import {
  createContainer,
  pauseContainer,
  resumeContainer,
  unmountEnded,
  updateContainer,
} from "./container_operations.ts";
import { Core, type SandboxerOptions } from "./core.ts";
import { type Counts, countsOf } from "./counts.ts";
import type { Driver } from "./driver.ts";
import { attempt, RESTARTING, SandboxError } from "./errors.ts";
import type { EventListener } from "./events.ts";
import type { Operation } from "./observer.ts";
import {
  addExec,
  closeStdin,
  type DeletedProcess,
  deleteProcess,
  killProcess,
  resizeTerminal,
  startProcess,
} from "./process_operations.ts";
import { recover, type RecoverySummary } from "./recovery.ts";
import { deleteSandbox, deleteUnstarted, stopSandbox } from "./sandbox_ending.ts";
import { createSandbox, startSandbox, updateSandbox } from "./sandbox_operations.ts";
import type { ContainerSpec, ExecSpec, Exit, ResourceSpec, SandboxSpec, Stats } from "./spec.ts";
import type { ContainerView, ProcessView, SandboxView } from "./view.ts";
import { viewContainer, viewProcess, viewSandbox } from "./viewing.ts";
import type { Waiters } from "./waiters.ts";

export type { Counts } from "./counts.ts";
export type { DeletedProcess } from "./process_operations.ts";
export type { RecoverySummary } from "./recovery.ts";
export type { Observer } from "./observer.ts";
export type { Clock, LifecycleLog, Limits, SandboxerOptions } from "./core.ts";

/** The lifecycle of all sandboxes of one kind on a node. */
export class Sandboxer {
  readonly #core: Core;

  /**
   * A sandboxer that holds nothing yet.
   *
   * @param options The driver, the store and the other ports.
   */
  constructor(options: SandboxerOptions) {
    this.#core = new Core(options);
  }

  /** The driver it was given. */
  get driver(): Driver {
    return this.#core.driver;
  }

  /**
   * Brings back what an earlier process left. Call it once, before anything listens.
   *
   * @param driverMs How long the driver may take for one sandbox, in milliseconds; default a minute.
   * @throws SandboxError when the state directory cannot be read, or was written by a later version.
   */
  recover(driverMs?: number): Promise<RecoverySummary> {
    return recover(this.#core, driverMs);
  }

  /**
   * Creates a sandbox; nothing runs yet. On failure, or when the signal fires, nothing stays.
   *
   * @throws SandboxError `AlreadyExists`, `InvalidArgument`, `ResourceExhausted`, `Unavailable`,
   *   `Cancelled`, `DeadlineExceeded`
   */
  createSandbox(spec: SandboxSpec, signal?: AbortSignal): Promise<void> {
    return this.#observed(
      { name: "sandbox_create", sandboxId: spec.id },
      () => createSandbox(this.#core, spec, signal),
    );
  }

  /**
   * Starts a sandbox. On failure, or when the signal fires, all is undone and the sandbox forgotten;
   * only where undoing fails it stays as failed, to be deleted.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition`, `Cancelled`, `DeadlineExceeded`, or what
   *   the driver throws.
   */
  startSandbox(id: string, signal?: AbortSignal): Promise<SandboxView> {
    return this.#observed(
      { name: "sandbox_start", sandboxId: id },
      () => startSandbox(this.#core, id, signal),
    );
  }

  /**
   * Stops a sandbox with all it runs. Stopping a stopped one succeeds.
   *
   * @param graceMs How long its processes may take to end by themselves, in milliseconds.
   * @param signal Gives up while other calls for the sandbox are in front; a stop that has begun is
   *   finished.
   * @throws SandboxError `NotFound`, or what the driver throws; then it can be stopped again.
   */
  stopSandbox(id: string, graceMs: number, signal?: AbortSignal): Promise<void> {
    return this.#observed(
      { name: "sandbox_stop", sandboxId: id },
      () => stopSandbox(this.#core, id, graceMs, signal),
    );
  }

  /**
   * Deletes a sandbox, stopping it first where it still runs.
   *
   * @param signal Gives up while other calls for the sandbox are in front; a delete that has begun
   *   is finished.
   * @throws SandboxError `NotFound`, or what the driver throws; then it can be deleted again.
   */
  deleteSandbox(id: string, signal?: AbortSignal): Promise<void> {
    return this.#observed(
      { name: "sandbox_delete", sandboxId: id },
      () => deleteSandbox(this.#core, id, signal),
    );
  }

  /**
   * Deletes the sandboxes that were created and not started since, and those that were taken over
   * empty and that nobody has waited for since. Callers who give up between the two calls, or whose
   * start was broken off before it was answered, send no clean-up; ask for it now and then.
   *
   * @param olderThanMs How long ago they were created, or taken over, in milliseconds.
   * @throws SandboxError what the store throws; the others are tried at the next call.
   */
  deleteUnstarted(olderThanMs: number): Promise<void> {
    return deleteUnstarted(this.#core, olderThanMs);
  }

  /**
   * Waits until a sandbox has ended.
   *
   * @throws SandboxError `NotFound`, `Cancelled`, `DeadlineExceeded`; `Unavailable` when this
   *   process goes away, so that the caller asks the next one.
   */
  async waitSandbox(id: string, signal?: AbortSignal): Promise<Exit> {
    const sandbox = this.#core.sandbox(id);
    sandbox.unheardSince = undefined;
    return await this.#open(sandbox.exits).wait(`wait for sandbox "${id}"`, signal);
  }

  /**
   * Changes the limits of a running sandbox.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition`, `Unimplemented`
   */
  updateSandbox(id: string, resources: ResourceSpec): Promise<void> {
    return updateSandbox(this.#core, id, resources);
  }

  /**
   * A sandbox as it is now.
   *
   * @throws SandboxError `NotFound`
   */
  sandbox(id: string): SandboxView {
    return viewSandbox(this.#core.sandbox(id));
  }

  /** All sandboxes as they are now. */
  sandboxes(): SandboxView[] {
    return [...this.#core.sandboxes.values()].map(viewSandbox);
  }

  /**
   * What a running sandbox uses.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition`
   */
  async sandboxStats(id: string): Promise<Stats> {
    const sandbox = this.#core.sandbox(id);
    const handle = sandbox.mustBeReady("measure");
    return await attempt(`cannot measure ${sandbox.label}`, () => handle.stats());
  }

  /**
   * Creates a container in a ready sandbox: checks it, mounts its root file system, asks the driver.
   * On failure, or when the signal fires, nothing stays.
   *
   * @throws SandboxError `NotFound` (sandbox), `AlreadyExists`, `FailedPrecondition`,
   *   `InvalidArgument`, `Unimplemented`, `ResourceExhausted`, `Cancelled`, `DeadlineExceeded`
   */
  async createContainer(spec: ContainerSpec, signal?: AbortSignal): Promise<void> {
    const { id: containerId, sandboxId } = spec;
    await this.#observed(
      { name: "container_create", sandboxId, containerId },
      () => createContainer(this.#core, spec, signal),
    );
  }

  /**
   * Adds an exec to a running container; {@link startProcess} starts it.
   *
   * @throws SandboxError `NotFound`, `AlreadyExists`, `FailedPrecondition`, `Unimplemented`
   */
  async exec(containerId: string, spec: ExecSpec): Promise<void> {
    await addExec(this.#core, containerId, spec);
  }

  /**
   * Starts a container's init process (empty exec id) or an exec.
   *
   * @returns Its pid (a thread id for guests that run in this process).
   * @throws SandboxError `NotFound`, `FailedPrecondition`, or what the driver throws.
   */
  async startProcess(containerId: string, execId: string, signal?: AbortSignal): Promise<number> {
    const name = execId === "" ? "container_start" : "exec_start";
    return await this.#observed(
      { name, sandboxId: this.#sandboxOf(containerId), containerId, execId },
      () => startProcess(this.#core, containerId, execId, signal),
    );
  }

  /**
   * Sends a signal.
   *
   * @param signal Number as in signal(7); 0 only checks that the process is there.
   * @param all With the init process (empty exec id): its execs get it too.
   * @throws SandboxError `NotFound` also for a process that has ended; `InvalidArgument`
   */
  async killProcess(
    containerId: string,
    execId: string,
    signal: number,
    all = false,
  ): Promise<void> {
    await killProcess(this.#core, containerId, execId, signal, all);
  }

  /**
   * Waits until a process has ended; answers at once where it has.
   *
   * @throws SandboxError `NotFound`, `Cancelled`, `DeadlineExceeded`, `Unavailable`
   */
  async waitProcess(containerId: string, execId: string, signal?: AbortSignal): Promise<Exit> {
    const process = this.#core.container(containerId).container.process(execId);
    return await this.#open(process.exits).wait(`wait for ${process.label(containerId)}`, signal);
  }

  /**
   * Deletes an exec that has ended, or (empty exec id) a container whose init has ended or never ran.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition` while it runs.
   */
  async deleteProcess(containerId: string, execId: string): Promise<DeletedProcess> {
    if (execId !== "") return await deleteProcess(this.#core, containerId, execId);
    return await this.#observed(
      { name: "container_delete", sandboxId: this.#sandboxOf(containerId), containerId },
      () => deleteProcess(this.#core, containerId, execId),
    );
  }

  /**
   * Freezes a running container.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition`, `Unimplemented`
   */
  pauseContainer(id: string): Promise<void> {
    return pauseContainer(this.#core, id);
  }

  /**
   * Thaws a paused container.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition`, `Unimplemented`
   */
  resumeContainer(id: string): Promise<void> {
    return resumeContainer(this.#core, id);
  }

  /**
   * Changes a container's limits.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition`, `Unimplemented`
   */
  updateContainer(id: string, resources: ResourceSpec): Promise<void> {
    return updateContainer(this.#core, id, resources);
  }

  /**
   * Sets the size of a process's terminal in characters.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition`
   */
  resizeTerminal(
    containerId: string,
    execId: string,
    columns: number,
    rows: number,
  ): Promise<void> {
    return resizeTerminal(this.#core, containerId, execId, columns, rows);
  }

  /**
   * Closes a process's standard input.
   *
   * @throws SandboxError `NotFound`
   */
  closeStdin(containerId: string, execId: string): Promise<void> {
    return closeStdin(this.#core, containerId, execId);
  }

  /**
   * The ids of a container's running processes (threads, for guests in this process).
   *
   * @throws SandboxError `NotFound`
   */
  async pids(containerId: string): Promise<readonly number[]> {
    const { state } = this.#core.container(containerId).container;
    if (state.kind === "stopped") return [];
    const action = `cannot list the processes of container "${containerId}"`;
    return await attempt(action, () => state.handle.pids());
  }

  /**
   * What a container uses; for one that has ended, what it used.
   *
   * @throws SandboxError `NotFound`, `FailedPrecondition` where nothing is left to ask.
   */
  async containerStats(containerId: string): Promise<Stats> {
    const { container } = this.#core.container(containerId);
    const { handle } = container.state;
    if (handle === undefined) throw container.wrongState("measure", "running");
    return await attempt(`cannot measure container "${containerId}"`, () => handle.stats());
  }

  /**
   * A container as it is now.
   *
   * @throws SandboxError `NotFound`
   */
  container(id: string): ContainerView {
    return viewContainer(this.#core.container(id));
  }

  /**
   * A process as it is now.
   *
   * @param execId Empty for the init process.
   * @throws SandboxError `NotFound`
   */
  process(containerId: string, execId: string): ProcessView {
    const { container } = this.#core.container(containerId);
    return viewProcess(container, container.process(execId));
  }

  /** Hears every event from now on, until the answer is disposed of. */
  subscribe(listener: EventListener): Disposable {
    return this.#core.subscribe(listener);
  }

  /** How much it holds at this moment, for metrics. */
  counts(): Counts {
    return countsOf(this.#core);
  }

  /**
   * Begins to leave: what would start something is refused from now on with `Unavailable`, so that its
   * caller asks the next process. What is under way goes on, waits stay open, and what ends something
   * is still done.
   */
  drain(): void {
    const { kind } = this.#core.driver;
    this.#core.closed ??= new SandboxError("Unavailable", `the ${kind} sandboxer ${RESTARTING}`);
  }

  /** How much is being done at this moment: what a process that leaves gives time to finish. */
  get underWay(): number {
    const { operations, creating } = this.counts();
    return operations + creating;
  }

  /**
   * Gets ready to leave: takes on nothing new, answers open waits with `Unavailable` (so that
   * containerd asks the next process), and waits for the state to be written. What runs is left
   * alone, and so are calls under way: what they leave half done the next process takes over or
   * cleans up. Root file systems of what ends with this process go out of sight. As long as the disk
   * takes for a write: a caller that cannot wait bounds it.
   */
  async close(): Promise<void> {
    const core = this.#core;
    this.drain();
    const error = core.closed ?? new SandboxError("Unavailable", RESTARTING);
    core.leaving = error;
    for (const sandbox of core.sandboxes.values()) {
      sandbox.exits.fail(error);
      for (const container of sandbox.containers.values()) {
        for (const process of container.processes()) process.exits.fail(error);
      }
    }
    const ending = [...core.sandboxes.values()].filter(({ state }) =>
      state.kind === "ready" && state.handle.outlivesSandboxer !== true
    );
    await Promise.all([
      core.written(),
      core.driver.leave?.(),
      ...ending.map((sandbox) => unmountEnded(core, sandbox)),
    ]);
  }

  #observed<T>(operation: Operation, run: () => Promise<T>): Promise<T> {
    return this.#core.observer.operation(operation, run);
  }

  /** The sandbox that a container is in; empty where there is none. */
  #sandboxOf(containerId: string): string {
    return this.#core.owners.get(containerId)?.spec.id ?? "";
  }

  /** Has waits that come after {@link close} turned away; an exit that is known still answers. */
  #open<T>(waiters: Waiters<T>): Waiters<T> {
    if (this.#core.leaving !== undefined) waiters.fail(this.#core.leaving);
    return waiters;
  }
}
