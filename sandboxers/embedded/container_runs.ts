/**
 * The containers of one sandbox of an embedded sandboxer: starts them so that nothing is left of one
 * that fails, and ends them with their sandbox.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer as Lifecycle } from "../lifecycle/sandboxer.ts";
import type { ContainerSpec, Exit } from "../lifecycle/spec.ts";
import type { OpenOptions } from "./api.ts";
import type { ProcessStdio, StartedProcess } from "./process.ts";

/** What the containers of a sandbox work with. */
export interface ContainerRunsPorts extends Pick<OpenOptions, "onWarning"> {
  /** Runs them. */
  readonly lifecycle: Lifecycle;
  /** Their sandbox. */
  readonly sandboxId: string;
}

/** A container to run. */
export interface RunRequest<C> {
  /** Its id. */
  readonly id: string;
  /** Aborting it gives the start up, or kills the container once it runs. */
  readonly signal: AbortSignal | undefined;
  /**
   * Gets ready what the container needs.
   *
   * @param undo Takes what has to be released after the container.
   */
  prepare(undo: AsyncDisposableStack): Promise<PreparedRun>;
  /** Makes the object that the caller gets. */
  wrap(started: StartedProcess): C;
}

/** What a container needs. */
export interface PreparedRun {
  /** What the lifecycle is asked for. */
  readonly spec: ContainerSpec;
  /** The streams of its first process; released with the container. */
  readonly stdio: ProcessStdio;
  /** Called when the first process has ended: readers find the end then, writers a broken pipe. */
  readonly onExit: () => void;
}

/** Containers. */
export class ContainerRuns<C extends AsyncDisposable> {
  readonly #ports: ContainerRunsPorts;
  readonly #running = new Set<C>();
  /** Runs that have not come to a container yet. */
  readonly #starting = new Set<Promise<unknown>>();
  #disposal: Promise<void> | undefined;

  /** Of a sandbox that is ready. */
  constructor(ports: ContainerRunsPorts) {
    this.#ports = ports;
  }

  /** Runs a container. */
  async run(request: RunRequest<C>): Promise<C> {
    if (this.#disposal !== undefined) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot run in sandbox "${this.#ports.sandboxId}": it is gone`,
      );
    }
    const starting = this.#start(request);
    this.#starting.add(starting);
    try {
      return await starting;
    } catch (error) {
      throw this.#cause(error);
    } finally {
      this.#starting.delete(starting);
    }
  }

  /** Of a failure and failures to clean up after it, the first; the others are warnings. */
  #cause(error: unknown): unknown {
    let cause = error;
    while (cause instanceof SuppressedError) {
      const later = String(cause.error);
      this.#ports.onWarning?.("cannot undo the start of a container", { error: later });
      cause = cause.suppressed;
    }
    return cause;
  }

  async #start({ id, signal, prepare, wrap }: RunRequest<C>): Promise<C> {
    const { lifecycle } = this.#ports;
    await using undo = new AsyncDisposableStack();
    const { spec, stdio, onExit } = await prepare(undo);
    await lifecycle.createContainer(spec, signal);
    undo.defer(() => this.#delete(id));
    const pid = await lifecycle.startProcess(id, "", signal);
    const exit = exitOf(lifecycle, id, "", onExit);
    const release = undo.move();
    const container: C = wrap({
      lifecycle,
      containerId: id,
      execId: "",
      pid,
      stdio,
      exit,
      signal,
      release: async () => {
        this.#running.delete(container);
        await release.disposeAsync();
      },
    });
    this.#running.add(container);
    return container;
  }

  /** Deletes a container; it may be gone with its sandbox already. */
  async #delete(id: string): Promise<void> {
    try {
      await this.#ports.lifecycle.deleteProcess(id, "");
    } catch (error) {
      if (!(error instanceof SandboxError && error.code === "NotFound")) throw error;
    }
  }

  /**
   * Ends the sandbox and releases everything.
   *
   * @param onDisposed Called once, when it is gone.
   */
  dispose(onDisposed: () => void): Promise<void> {
    this.#disposal ??= this.#dispose(onDisposed);
    return this.#disposal;
  }

  async #dispose(onDisposed: () => void): Promise<void> {
    // From the last to the first.
    await using steps = new AsyncDisposableStack();
    steps.defer(onDisposed);
    steps.defer(() => disposeAll(this.#running));
    // Runs that were under way find no sandbox any more and clean up after themselves.
    steps.defer(async () => void await Promise.allSettled(this.#starting));
    steps.defer(() => this.#ports.lifecycle.deleteSandbox(this.#ports.sandboxId));
  }
}

/**
 * How a process ends.
 *
 * @param onExit Called before that is told.
 * @returns Never rejects.
 */
export async function exitOf(
  lifecycle: Lifecycle,
  containerId: string,
  execId: string,
  onExit: () => void,
): Promise<Exit> {
  try {
    return await lifecycle.waitProcess(containerId, execId);
  } catch (error) {
    // Only where the sandboxer went away under it.
    const { message } = SandboxError.from(error);
    return { status: 137, at: Date.now(), reason: "lost", message };
  } finally {
    onExit();
  }
}

/**
 * Disposes of all, whatever becomes of the others.
 *
 * @param all What to dispose of.
 * @throws What went wrong with one, or an `AggregateError` of several.
 */
export async function disposeAll(all: Iterable<AsyncDisposable>): Promise<void> {
  const ends = [...all].map((each) => each[Symbol.asyncDispose]());
  const failures: unknown[] = [];
  for (const end of await Promise.allSettled(ends)) {
    if (end.status === "rejected") failures.push(end.reason);
  }
  if (failures.length > 0) throw failures.length === 1 ? failures[0] : new AggregateError(failures);
}
