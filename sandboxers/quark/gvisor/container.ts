/**
 * A container in a gVisor sandbox: made and started by runsc, watched and signalled by the sandbox's
 * control socket.
 *
 * @module
 */

import type { Launcher } from "../../host/launcher.ts";
import type { ContainerHandle, ProcessHandle } from "../../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { ContainerSpec, ExecSpec, Json, ResourceSpec, Stats } from "../../lifecycle/spec.ts";
import type { ContainerFiles } from "./container_files.ts";
import { sentryExec } from "./control_exec.ts";
import { GvisorProcess, type ProcessPod } from "./process.ts";
import { ProcessStdio, type StdioPlace } from "./process_stdio.ts";
import type { Runsc } from "./runsc.ts";
import type { Stillness } from "./stillness.ts";

const SIGKILL = 9;
/** How long runsc may take to bring a sandbox back, in milliseconds: it reads all its memory. */
const RESTORE_MS = 600_000;

/** The pod of a container, as far as that needs it. */
export interface ContainerPod extends ProcessPod {
  /** The name by which runsc knows it. */
  readonly sandbox: string;
  /** Whether the sandbox has ended. */
  readonly over: boolean;
  /** Whether containers that have CAP_NET_RAW may use it. */
  readonly rawSockets: boolean;
  /** Keeps what changes it and what it has to stand still for apart. */
  readonly still: Stillness;
  /** Calls runsc for it, where that is there. */
  runsc(): Promise<Runsc>;
  /** The host launcher. */
  readonly launcher: Launcher;
  /** Where the streams of a process are opened. */
  stdioPlace(directory: string, label: string): StdioPlace;
  /** Stops all of it on behalf of a container. */
  pause(container: GvisorContainer): Promise<void>;
  /** Lets all of it go on that no other container has stopped. */
  resume(container: GvisorContainer): Promise<void>;
  /** Does something that needs running processes, while some containers may be paused. */
  whileRunning<T>(work: () => Promise<T>): Promise<T>;
  /** Takes note of a container of a snapshot that was brought back. */
  restored(container: string): void;
  /** The limits of a container have changed. */
  limit(): Promise<void>;
  /** Takes a container away that is in the sandbox, running or not. */
  destroy(container: string): Promise<void>;
  /** Hears no more of a container. */
  forget(container: string): void;
}

/** What a container is made of. */
export interface ContainerParts {
  /** What was asked for. */
  readonly spec: ContainerSpec;
  /** Its files on the host; the new object owns them. */
  readonly files: ContainerFiles;
  /** Whether its processes outlive its init process, which ends all of a pid namespace of its own. */
  readonly sharesPids: boolean;
  /** The streams of its init process, until that is started; the new object owns them. */
  readonly opened?: ProcessStdio;
  /** The directory of the snapshot that it is in; missing for a new one. */
  readonly snapshot?: string | undefined;
}

/** A container that was created. */
export class GvisorContainer implements ContainerHandle {
  readonly #pod: ContainerPod;
  readonly #parts: ContainerParts;
  readonly #processes = new Map<string, GvisorProcess>();
  #opened: ProcessStdio | undefined;
  #resources: ResourceSpec;
  #lastStats: Stats | undefined;
  #deleting: Promise<void> | undefined;
  #lettingGo: Promise<void> | undefined;

  /**
   * Describes a container that the sandbox has.
   *
   * @param pod Its pod.
   * @param parts See {@link ContainerParts}.
   */
  constructor(pod: ContainerPod, parts: ContainerParts) {
    this.#pod = pod;
    this.#parts = parts;
    this.#opened = parts.opened;
    this.#resources = parts.spec.resources;
  }

  /**
   * Makes a container ready to start.
   *
   * @param pod Its pod.
   * @param parts See {@link ContainerParts}.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} What runsc says; then nothing is left of it.
   */
  static async create(
    pod: ContainerPod,
    parts: ContainerParts & { readonly opened: ProcessStdio },
    signal: AbortSignal,
  ): Promise<GvisorContainer> {
    const { spec, files, opened, snapshot } = parts;
    const { consoleSocket } = opened;
    const runsc = await pod.runsc();
    // It is made when it is brought back, which needs its streams.
    if (snapshot !== undefined) return new GvisorContainer(pod, parts);
    await runsc.create({
      id: spec.id,
      sandboxId: pod.sandbox,
      bundle: files.directory,
      ...(consoleSocket === undefined ? {} : { consoleSocket }),
    }, { signal });
    return new GvisorContainer(pod, parts);
  }

  /** What the next sandboxer needs beyond what runsc has written down. */
  get record(): Json {
    return { sharesPids: this.#parts.sharesPids };
  }

  /** What was asked for. */
  get spec(): ContainerSpec {
    return this.#parts.spec;
  }

  /** Its limits now. */
  get resources(): ResourceSpec {
    return this.#resources;
  }

  /** What has become of its first process. */
  get state(): "created" | "running" | "ended" {
    if (this.#opened !== undefined) return "created";
    return this.#processes.get("")?.over === false ? "running" : "ended";
  }

  /** Its other processes that run, by their ids. */
  get execs(): readonly string[] {
    return [...this.#processes].flatMap(([id, { over }]) => id === "" || over ? [] : [id]);
  }

  /** The directory of its config.json. */
  get bundle(): string {
    return this.#parts.files.directory;
  }

  /** Its processes that have not ended. */
  get running(): readonly GvisorProcess[] {
    return [...this.#processes.values()].filter(({ over }) => !over);
  }

  /** Starts the init process; lets that of a container in a snapshot go on. */
  async start(signal: AbortSignal): Promise<ProcessHandle> {
    return await this.#pod.still.work(() => this.#start(signal));
  }

  async #start(signal: AbortSignal): Promise<ProcessHandle> {
    const { id } = this.spec;
    const { snapshot, files } = this.#parts;
    const opened = this.#opened;
    if (opened === undefined) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot start container "${id}": it was started`,
      );
    }
    const container = { id, sandboxId: this.#pod.sandbox };
    const runsc = await this.#pod.runsc();
    if (snapshot === undefined) {
      await runsc.start(container, opened.runsc, { signal });
    } else {
      const order = { ...container, bundle: files.directory, stdio: opened.runsc };
      await runsc.restore(order, snapshot, { signal, timeoutMs: RESTORE_MS });
      this.#pod.restored(id);
    }
    this.#opened = undefined;
    // Before its end can be heard of, which takes away what is noted here.
    await opened.begun(0, id, this.#pod.control.path);
    const process = this.watch("", 0, opened);
    // Its files are in the gofer's own mount namespace now.
    this.#lettingGo = files.letGo().catch(() => undefined);
    return process;
  }

  /** Starts a process beside it. */
  async exec(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle> {
    return await this.#pod.still.work(() => this.#exec(spec, signal));
  }

  async #exec(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle> {
    const { id } = this.spec;
    throwIfAborted(signal, `cannot start exec "${spec.id}"`);
    const stdio = await ProcessStdio.open(spec.stdio, this.execPlace(spec.id), signal);
    const { launcher, control, rawSockets } = this.#pod;
    let pid: number | undefined;
    try {
      pid = await sentryExec({
        launcher,
        control,
        containerId: id,
        process: spec.process,
        stdio: stdio.handed,
        netRaw: rawSockets,
      }, signal);
      await stdio.begun(pid, id, control.path);
      return this.watch(spec.id, pid, stdio);
    } catch (error) {
      if (pid !== undefined) await control.signal(id, SIGKILL, { pid }).catch(() => undefined);
      await stdio.release();
      throw error;
    }
  }

  /** Where the streams of an exec are opened. */
  execPlace(exec: string): StdioPlace {
    return this.#pod.stdioPlace(this.#parts.files.processDirectory(exec), `exec "${exec}"`);
  }

  /**
   * Watches a process of it.
   *
   * @param exec The exec's id; empty for the init process.
   * @param pid Its id in the sandbox; 0 for the init process.
   * @param stdio Its streams; the process owns them.
   */
  watch(exec: string, pid: number, stdio: ProcessStdio): GvisorProcess {
    const { spec, sharesPids } = this.#parts;
    const onEnd = async () => {
      if (exec !== "") {
        this.#processes.delete(exec);
      } else {
        await this.#measure().catch(() => undefined);
        // As with runc: what its init process leaves behind ends with it.
        if (sharesPids && !this.#pod.over) {
          await this.#pod.control.signal(spec.id, SIGKILL, "all").catch(() => undefined);
        }
      }
    };
    const process = new GvisorProcess(this.#pod, spec.id, pid, stdio, onEnd);
    this.#processes.set(exec, process);
    return process;
  }

  /** Freezes it, and with it all of its pod: gVisor cannot stop less. */
  async pause(): Promise<void> {
    await this.#pod.pause(this);
  }

  /** Thaws it. */
  async resume(): Promise<void> {
    await this.#pod.resume(this);
  }

  /** Notes that it is paused, for the next sandboxer. */
  async notePaused(): Promise<void> {
    await this.#parts.files.notePaused();
  }

  /** Notes that it is not any more. */
  async noteResumed(): Promise<void> {
    await this.#parts.files.noteResumed();
  }

  /** Changes its limits: what the limits of its pod follow from. */
  async update(resources: ResourceSpec): Promise<void> {
    const before = this.#resources;
    this.#resources = { ...before, ...resources };
    try {
      await this.#pod.limit();
    } catch (error) {
      this.#resources = before;
      throw error;
    }
  }

  /** The sandbox's process id while it runs: ids inside of it mean nothing on the host. */
  pids(): Promise<readonly number[]> {
    return Promise.resolve(this.running.length === 0 ? [] : [this.#pod.pid]);
  }

  /** What it uses; after its end, what it used last. */
  async stats(): Promise<Stats> {
    if (this.running.length > 0 && !this.#pod.over) await this.#measure();
    return this.#lastStats ?? { at: Date.now(), cpuNs: 0, memoryBytes: 0, pids: 0 };
  }

  /** Kills what still runs and releases everything. */
  delete(): Promise<void> {
    this.#deleting ??= this.#delete().catch((error: unknown) => {
      this.#deleting = undefined;
      throw error;
    });
    return this.#deleting;
  }

  async #delete(): Promise<void> {
    const { id } = this.spec;
    // A stopped kernel could not end it.
    if (!this.#pod.over) {
      await this.#pod.resume(this);
      await this.#pod.whileRunning(() => this.#pod.destroy(id));
    }
    await this.release();
  }

  /** Releases what is on the host; the sandbox has ended, or has deleted it. */
  async release(): Promise<void> {
    const lost = [...this.#processes.values()].map((process) =>
      process.lost("its container was deleted")
    );
    await Promise.all(lost);
    await this.#opened?.release();
    this.#opened = undefined;
    await this.#lettingGo;
    await this.#parts.files.remove();
    this.#pod.forget(this.spec.id);
  }

  async #measure(): Promise<void> {
    const { cpuNs, memoryBytes, pids } = await this.#pod.control.stats(this.spec.id);
    const limit = this.#resources.memoryBytes;
    this.#lastStats = {
      at: Date.now(),
      cpuNs,
      memoryBytes,
      ...(limit === undefined ? {} : { memoryLimitBytes: limit }),
      pids,
    };
  }
}
