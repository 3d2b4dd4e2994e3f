/**
 * A container in a Quark sandbox: its files are bound where Quark looks for them, and calls are
 * forwarded to Quark's task service.
 *
 * @module
 */

import { Task } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import { Status } from "../../../proto/gen/containerd/v1/types/task_pb.ts";
import type { AdoptedContainer, ContainerHandle, ProcessHandle } from "../../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { ContainerSpec, ExecSpec, Exit, Json, Stats } from "../../lifecycle/spec.ts";
import { quarkExecProcess } from "./container_config.ts";
import { type ContainerDirectory, removeContainerDirectory } from "./container_files.ts";
import { kernelError } from "./kernel_error.ts";
import type { QuarkOptions } from "./options.ts";
import { QuarkProcess } from "./process.ts";
import { BoundStdio, checkStdio } from "./stdio.ts";
import { GIVE_UP_MS, giveUp, ociAny, within } from "./task_calls.ts";
import type { TaskConnection } from "./task_connection.ts";
import { quarkStats } from "./usage.ts";

/** How long a container that was killed may take to end, in milliseconds. */
const KILL_MS = 10_000;
const SIGKILL = 9;

/** The pod of a container, as far as that needs it. */
export interface ContainerPod {
  /** The id of Quark's process. */
  readonly pid: number;
  /** The connection to Quark. */
  readonly tasks: TaskConnection;
  /** What pods are made with. */
  readonly options: QuarkOptions;
  /** Settles when the sandbox has ended. */
  readonly exited: Promise<Exit>;
  /** Whether it has ended. */
  readonly over: boolean;
  /** Its containers. */
  readonly containerCount: number;
  /** What it uses as a whole. */
  stats(): Promise<Stats>;
  /** Hears no more of a container. */
  forget(container: QuarkContainer): void;
}

/** What a container is made of. */
export interface ContainerParts {
  /** What was asked for. */
  readonly spec: ContainerSpec;
  /** What Quark calls it. */
  readonly name: string;
  /** Its directory, in place; the container owns it. */
  readonly directory: ContainerDirectory;
  /** The streams of its init process; the container owns them. */
  readonly stdio: BoundStdio;
}

/** A container that was created. */
export class QuarkContainer implements ContainerHandle {
  /** What the next sandboxer needs. */
  readonly record: Json;
  /** What Quark calls it. */
  readonly name: string;
  readonly #pod: ContainerPod;
  readonly #parts: ContainerParts;
  readonly #init: QuarkProcess;
  readonly #execs = new Set<QuarkProcess>();
  /** What is being released of processes that have ended. */
  readonly #releasing = new Set<Promise<void>>();
  #started = false;
  #deleted = false;

  private constructor(pod: ContainerPod, parts: ContainerParts) {
    this.name = parts.name;
    this.record = { name: parts.name };
    this.#pod = pod;
    this.#parts = parts;
    this.#init = this.#process("", parts.stdio, () => this.#init.stdio.closeStdin());
  }

  /**
   * Has Quark create a container.
   *
   * @param pod Its pod.
   * @param parts See {@link ContainerParts}.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} As Quark says; then nothing is left of it there.
   */
  static async create(
    pod: ContainerPod,
    parts: ContainerParts,
    signal: AbortSignal,
  ): Promise<QuarkContainer> {
    const { spec: { id }, name, directory, stdio } = parts;
    const action = `cannot create container "${id}"`;
    throwIfAborted(signal, action);
    const request = { id: name, bundle: directory.inside, ...stdio.request };
    try {
      await pod.tasks.call(Task.method.create, request, { signal });
    } catch (error) {
      await giveUp(pod, { id: name, execId: "" });
      throw kernelError(error, action);
    }
    return new QuarkContainer(pod, parts);
  }

  /**
   * Takes a container over that an earlier sandboxer had made.
   *
   * @param pod Its pod.
   * @param parts See {@link ContainerParts}.
   * @param status What Quark says of it.
   * @param execs Its execs as they were asked for.
   */
  static async adopt(
    pod: ContainerPod,
    parts: ContainerParts,
    status: Status,
    execs: readonly ExecSpec[],
  ): Promise<AdoptedContainer & { readonly handle: QuarkContainer }> {
    const handle = new QuarkContainer(pod, parts);
    handle.#started = status !== Status.CREATED;
    const processes = new Map<string, ProcessHandle>();
    if (handle.#started) processes.set("", handle.#init);
    for (const { id, stdio } of execs) {
      if (!await handle.#has(id)) continue;
      const owner = { directory: parts.directory, exec: id };
      processes.set(id, handle.#exec(id, BoundStdio.adopt(pod.options, owner, stdio)));
    }
    return { handle, processes };
  }

  /** Its processes that have not ended. */
  get running(): readonly QuarkProcess[] {
    const started = this.#started ? [this.#init] : [];
    return [...started, ...this.#execs].filter(({ over }) => !over);
  }

  /** Starts the init process. */
  async start(signal: AbortSignal): Promise<ProcessHandle> {
    const action = `cannot start container "${this.#parts.spec.id}"`;
    try {
      await this.#pod.tasks.call(Task.method.start, { id: this.name }, { signal });
    } catch (error) {
      throw kernelError(error, action);
    }
    this.#started = true;
    await this.#firstSize(this.#init, this.#parts.spec.stdio.terminalSize);
    return this.#init;
  }

  /** Starts a process beside it. */
  async exec(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle> {
    const label = `exec "${spec.id}"`;
    const action = `cannot start ${label} in container "${this.#parts.spec.id}"`;
    checkStdio(spec.stdio, label);
    throwIfAborted(signal, action);
    const owner = { directory: this.#parts.directory, exec: spec.id };
    const stdio = await BoundStdio.bind(this.#pod.options, owner, spec.stdio);
    const request = { id: this.name, execId: spec.id };
    const { tasks } = this.#pod;
    try {
      await tasks.call(Task.method.exec, {
        ...request,
        ...stdio.request,
        spec: ociAny("Process", quarkExecProcess(spec.process, spec.stdio.terminal)),
      }, { signal });
    } catch (error) {
      // It may have taken note of it all the same.
      await giveUp(this.#pod, { id: this.name, execId: spec.id });
      await stdio.release();
      throw kernelError(error, action);
    }
    const process = this.#exec(spec.id, stdio);
    try {
      await tasks.call(Task.method.start, request, { signal });
    } catch (error) {
      await giveUp(this.#pod, { id: this.name, execId: spec.id });
      process.gaveUp();
      await this.#released();
      throw kernelError(error, action);
    }
    await this.#firstSize(process, spec.stdio.terminalSize);
    return process;
  }

  /** The id of Quark's process while it runs: ids inside of it mean nothing on the host. */
  pids(): Promise<readonly number[]> {
    return Promise.resolve(this.running.length === 0 ? [] : [this.#pod.pid]);
  }

  /**
   * What it uses, as far as Quark says so. Where it does not, a container that is alone in its pod uses
   * what the pod does; of others nothing is known.
   */
  async stats(): Promise<Stats> {
    const nothing: Stats = { at: Date.now(), cpuNs: 0, memoryBytes: 0, pids: this.running.length };
    if (this.#pod.over || this.running.length === 0) return nothing;
    try {
      const { stats } = await this.#pod.tasks.call(Task.method.stats, { id: this.name });
      const own = quarkStats(stats);
      if (own !== undefined) return own;
    } catch (error) {
      const failure = kernelError(error, `cannot measure container "${this.#parts.spec.id}"`);
      if (failure.code !== "Unimplemented") throw failure;
    }
    return this.#pod.containerCount === 1 ? await this.#pod.stats() : nothing;
  }

  /** Kills what still runs and releases everything. */
  async delete(): Promise<void> {
    if (this.#deleted) return;
    if (!this.#pod.over) await this.#end();
    await this.release();
  }

  /** Releases what is on the host; Quark has ended, or has deleted it. */
  async release(): Promise<void> {
    if (this.#deleted) return;
    for (const process of [this.#init, ...this.#execs]) process.stdio.closeStdin();
    await this.#released();
    await removeContainerDirectory(this.#pod.options.mounter, this.#parts.directory);
    this.#deleted = true;
    this.#pod.forget(this);
  }

  /** Leaves it to the next sandboxer: what is open here is closed, and nothing is taken away. */
  async leave(): Promise<void> {
    await this.#released();
    for (const process of [this.#init, ...this.#execs]) process.stdio.leave();
  }

  async #end(): Promise<void> {
    const { tasks } = this.#pod;
    const action = `cannot delete container "${this.#parts.spec.id}"`;
    const wasStarted = this.#started;
    if (wasStarted && !this.#init.over) {
      const request = { id: this.name, signal: SIGKILL, all: true };
      // That it ends is what counts.
      await tasks.call(Task.method.kill, request, { timeoutMs: KILL_MS }).catch(() => undefined);
      await within(this.#init.exited, KILL_MS, `${action}: it does not end after SIGKILL`);
    }
    try {
      await tasks.call(Task.method.delete, { id: this.name });
    } catch (error) {
      // An earlier call may have got this far; and of one that never ran Quark misses how it ended.
      const { code } = SandboxError.from(error);
      if (this.#pod.over || code === "NotFound" || !wasStarted) return this.#init.gaveUp();
      throw kernelError(error, action);
    }
    this.#init.gaveUp();
  }

  #exec(id: string, stdio: BoundStdio): QuarkProcess {
    const process: QuarkProcess = this.#process(id, stdio, () => {
      this.#execs.delete(process);
      const release = this.#releaseExec(process);
      this.#releasing.add(release);
      void release.then(() => this.#releasing.delete(release));
    });
    this.#execs.add(process);
    return process;
  }

  #process(exec: string, stdio: BoundStdio, onEnd: () => void): QuarkProcess {
    const { tasks, pid, exited } = this.#pod;
    const name = { container: this.name, exec };
    return new QuarkProcess({ name, tasks, pid, stdio, sandboxEnd: exited, onEnd });
  }

  /** Whether Quark knows an exec. */
  async #has(exec: string): Promise<boolean> {
    try {
      await this.#pod.tasks.call(Task.method.state, { id: this.name, execId: exec });
      return true;
    } catch (error) {
      const { code } = SandboxError.from(error);
      if (code === "Unavailable" || code === "DeadlineExceeded") throw error;
      return false;
    }
  }

  /** Never rejects: what is left goes with the container. */
  async #releaseExec({ stdio, name }: QuarkProcess): Promise<void> {
    try {
      if (!this.#pod.over) {
        const request = { id: name.container, execId: name.exec };
        await this.#pod.tasks.call(Task.method.delete, request, { timeoutMs: GIVE_UP_MS })
          .catch(() => undefined);
      }
      await stdio.release();
    } catch (error) {
      this.#pod.options.log.warn("cannot release the streams of an exec", {
        container: this.#parts.spec.id,
        error: SandboxError.from(error),
      });
    }
  }

  async #released(): Promise<void> {
    await Promise.all([...this.#releasing]);
  }

  async #firstSize(
    process: QuarkProcess,
    size: { readonly columns: number; readonly rows: number } | undefined,
  ): Promise<void> {
    if (size === undefined) return;
    // A terminal of a wrong size is one all the same.
    await process.resize(size.columns, size.rows).catch(() => undefined);
  }
}
