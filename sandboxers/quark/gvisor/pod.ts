/**
 * A pod that is a gVisor sandbox, as the lifecycle sees it. Its end is heard of by its control
 * socket: a wait for the root container ends with the sandbox, however that ends.
 *
 * @module
 */

import type { SourceMounter } from "../../host/bound_sources.ts";
import type { AnswerKeeper, FifoKeeper } from "../../host/fifo_holder.ts";
import type { Launcher, ProcessIdentity } from "../../host/launcher.ts";
import type { ContainerHandle, SandboxHandle } from "../../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import { noObserver, type Observer } from "../../lifecycle/observer.ts";
import { Serial } from "../../lifecycle/serial.ts";
import {
  type ContainerSpec,
  type Exit,
  type Json,
  KILLED_STATUS,
  type ResourceSpec,
  type SandboxSpec,
  type Stats,
} from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import { removeTree } from "../../removal.ts";
import { type ContainerPod, GvisorContainer } from "./container.ts";
import { containerConfig } from "./container_config.ts";
import { ContainerFiles } from "./container_files.ts";
import type { SentryControl } from "./control.ts";
import { podLimits } from "./limits.ts";
import { lastWords } from "./last_words.ts";
import { giveBackAddresses } from "./pod_addresses.ts";
import { ProcessStdio, type StdioPlace } from "./process_stdio.ts";
import type { Runsc } from "./runsc.ts";
import { removeRecord } from "./runsc_state.ts";
import { sharedFiles } from "./shared_files.ts";
import { Stillness } from "./stillness.ts";

const SIGTERM = 15;
/** How often processes that have to end are looked at, in milliseconds. */
const GRACE_POLL_MS = 20;
/** How long a wait that failed is put off, in milliseconds, while the sandbox lives. */
const RETRY_MS = 200;

/** What a pod is made of. */
export interface PodParts {
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** The name by which runsc knows it. */
  readonly sandbox: string;
  /** Its directory on the host. */
  readonly directory: string;
  /** Its cgroup below each hierarchy's root; empty for none. */
  readonly cgroup: string;
  /** The process id of the sandbox. */
  readonly pid: number;
  /** Its control socket. */
  readonly control: SentryControl;
  /** runsc's root directory. */
  readonly root: string;
  /** Calls runsc for it, where that is there. */
  readonly runsc: () => Promise<Runsc>;
  /** Whether containers that have CAP_NET_RAW may use it. */
  readonly rawSockets: boolean;
  /** Holds FIFOs and hears of exits beyond this process; undefined where the pod does not outlive it. */
  readonly holder?: (FifoKeeper & AnswerKeeper) | undefined;
  /** The host launcher. */
  readonly launcher: Launcher;
  /** Mounts and unmounts. */
  readonly mounter: SourceMounter;
  /** Aborted when this process leaves its pods to the next one. */
  readonly leaving: AbortSignal;
  /** Whether it goes on when this process ends. */
  readonly outlivesSandboxer: boolean;
  /** Hears of the phases of starts; missing for nobody. */
  readonly observer?: Observer;
  /** Where notes go. */
  readonly log: Log;
  /** The containers of the snapshot that it is made of, by their new ids; missing for none. */
  readonly saved?: ReadonlyMap<string, SavedContainer>;
  /** Called when nothing is left of it. */
  onRemoved(): void;
}

/** A container in a snapshot. */
export interface SavedContainer {
  /** The name by which it is known in the saved memory. */
  readonly name: string;
  /** The directory of the snapshot. */
  readonly snapshot: string;
}

/** A pod. */
export class GvisorPod implements SandboxHandle, ContainerPod {
  /** Sandboxes are processes of their own. */
  readonly outlivesSandboxer: boolean;
  readonly #parts: PodParts;
  readonly #containers = new Map<string, GvisorContainer>();
  readonly #exit = Promise.withResolvers<Exit>();
  readonly #turn = new Serial();
  readonly #limiting = new Serial();
  readonly #paused = new Set<GvisorContainer>();
  /** Keeps what changes it and what it has to stand still for apart. */
  readonly still: Stillness = new Stillness();
  /** Containers of a snapshot that have not been brought back yet. */
  readonly #saved: Map<string, SavedContainer>;
  #resources: ResourceSpec;
  #limits: string;
  #stopping = false;
  #oomKills = 0;
  #over = false;
  /** Which process the sandbox is, from when it is watched: its number may be another's later. */
  #identity: Promise<ProcessIdentity | undefined> | undefined;

  /**
   * Takes a sandbox over that runs.
   *
   * @param parts See {@link PodParts}.
   */
  constructor(parts: PodParts) {
    this.#parts = parts;
    this.outlivesSandboxer = parts.outlivesSandboxer;
    this.#saved = new Map(parts.saved);
    this.#resources = parts.spec.resources;
    this.#limits = JSON.stringify(podLimits(this.#resources, []));
  }

  /** Watches it; from when its root container was started. */
  watch(): void {
    const { launcher, pid } = this.#parts;
    this.#identity = launcher.identify(pid);
    this.#identity.catch(() => undefined);
    // Until then nothing of the snapshot runs, and nothing can be waited for.
    if (!this.isRestoring) void this.#supervise();
  }

  /** Whether containers of a snapshot have not been brought back yet: with the last all go on. */
  get isRestoring(): boolean {
    return this.#saved.size > 0;
  }

  /** Takes note of a container of a snapshot that was brought back. */
  restored(container: string): void {
    if (this.#saved.delete(container) && !this.isRestoring) void this.#supervise();
  }

  /** Its containers, in the order in which they were made. */
  get containers(): readonly GvisorContainer[] {
    return [...this.#containers.values()];
  }

  /** What the next sandboxer needs beyond what runsc has written down. */
  get record(): Json {
    return { pid: this.pid };
  }

  /** What was asked for. */
  get spec(): SandboxSpec {
    return this.#parts.spec;
  }

  /** The process id of its sandbox. */
  get pid(): number {
    return this.#parts.pid;
  }

  /** The name by which runsc knows it. */
  get sandbox(): string {
    return this.#parts.sandbox;
  }

  /** Its directory on the host. */
  get directory(): string {
    return this.#parts.directory;
  }

  /** Its control socket. */
  get control(): SentryControl {
    return this.#parts.control;
  }

  /** Whether containers that have CAP_NET_RAW may use it. */
  get rawSockets(): boolean {
    return this.#parts.rawSockets;
  }

  /** Calls runsc for it, where that is there. */
  runsc(): Promise<Runsc> {
    return this.#parts.runsc();
  }

  /** The host launcher. */
  get launcher(): Launcher {
    return this.#parts.launcher;
  }

  /** Aborted when this process leaves it to the next one. */
  get leaving(): AbortSignal {
    return this.#parts.leaving;
  }

  /** Whether its sandbox has ended. */
  get over(): boolean {
    return this.#over;
  }

  /** Settles when its sandbox has ended. */
  get ended(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** Settles when it has ended with all its processes. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** Makes a container ready to start. */
  async createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    return await this.still.work(() => this.#createContainer(spec, signal));
  }

  async #createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    const { directory, sandbox, observer = noObserver } = this.#parts;
    const begin = performance.now();
    await using undo = new AsyncDisposableStack();
    const files = this.filesOf(spec.id);
    const { name = crypto.randomUUID(), snapshot } = this.#saved.get(spec.id) ?? {};
    const config = await containerConfig(spec, {
      sandbox,
      name,
      files: sharedFiles(directory),
      empty: `${directory}/empty`,
    });
    undo.defer(() => files.remove());
    await files.write(await files.protect(config.document));
    const place = this.stdioPlace(files.processDirectory(""), `container "${spec.id}"`);
    const opened = await ProcessStdio.open(spec.stdio, place, signal);
    undo.defer(() => opened.release());
    const { sharesPids } = config;
    const parts = { spec, files, sharesPids, opened, snapshot };
    const bundled = performance.now();
    observer.phase("container_create", "bundle", begin, bundled);
    const container = await GvisorContainer.create(this, parts, signal);
    observer.phase("container_create", "create", bundled);
    undo.defer(() => this.destroy(spec.id));
    this.#containers.set(spec.id, container);
    undo.defer(() => this.forget(spec.id));
    await this.limit();
    throwIfAborted(signal, `cannot create container "${spec.id}"`);
    undo.move();
    return container;
  }

  /** The files of a container of it. */
  filesOf(container: string): ContainerFiles {
    return new ContainerFiles(this.directory, container, this.#parts.mounter);
  }

  /** Where the streams of a process are opened. */
  stdioPlace(directory: string, label: string): StdioPlace {
    const { launcher, holder, log } = this.#parts;
    return { launcher, directory, socketDirectory: this.directory, label, keeper: holder, log };
  }

  /** Takes note of a container that an earlier sandboxer had made. */
  addContainer(container: GvisorContainer): void {
    this.#containers.set(container.spec.id, container);
  }

  /** Changes the limits of the whole. */
  async update(resources: ResourceSpec): Promise<void> {
    const before = this.#resources;
    this.#resources = { ...before, ...resources };
    try {
      await this.limit();
    } catch (error) {
      this.#resources = before;
      throw error;
    }
  }

  /** Sets the limits that follow from its own and its containers'. */
  async limit(): Promise<void> {
    await this.#limiting.run(async () => {
      const { cgroup, launcher } = this.#parts;
      const containers = [...this.#containers.values()].map(({ resources }) => resources);
      const limits = podLimits(this.#resources, containers);
      const text = JSON.stringify(limits);
      if (cgroup === "" || text === this.#limits) return;
      await launcher.limitCgroup(cgroup, limits);
      this.#limits = text;
    });
  }

  /** What it uses. */
  async stats(): Promise<Stats> {
    const { cgroup, launcher, control, sandbox } = this.#parts;
    const at = Date.now();
    const usage = cgroup === "" ? undefined : await launcher.cgroupUsage(cgroup);
    if (usage !== undefined) {
      const { cpuNs, memoryBytes, inactiveFileBytes, memoryLimitBytes, pids } = usage;
      return {
        at,
        cpuNs,
        memoryBytes: Math.max(0, memoryBytes - inactiveFileBytes),
        ...(memoryLimitBytes === undefined ? {} : { memoryLimitBytes }),
        pids,
      };
    }
    if (this.#over) return { at, cpuNs: 0, memoryBytes: 0, pids: 0 };
    const ids = [sandbox, ...this.#containers.keys()];
    const all = await Promise.all(ids.map((id) => control.stats(id)));
    const total = (what: "cpuNs" | "memoryBytes" | "pids") =>
      all.reduce((sum, stats) => sum + stats[what], 0);
    return {
      at,
      cpuNs: total("cpuNs"),
      memoryBytes: total("memoryBytes"),
      pids: total("pids"),
    };
  }

  /** Whether the host has killed something in it for want of memory, since this was asked last. */
  async ranOutOfMemory(): Promise<boolean> {
    const { cgroup, launcher } = this.#parts;
    if (cgroup === "") return false;
    const usage = await launcher.cgroupUsage(cgroup).catch(() => undefined);
    const kills = usage?.oomKills ?? 0;
    const isNew = kills > this.#oomKills;
    this.#oomKills = kills;
    return isNew;
  }

  /** Whether some container of it is paused, and with it all of them. */
  get isPaused(): boolean {
    return this.#paused.size > 0;
  }

  /** Stops all of it on behalf of a container. */
  async pause(container: GvisorContainer): Promise<void> {
    await this.#turn.run(async () => {
      if (this.#paused.has(container)) return;
      await this.control.pause();
      this.#paused.add(container);
      await container.notePaused();
    });
  }

  /** Lets all of it go on that no other container has stopped. */
  async resume(container: GvisorContainer): Promise<void> {
    await this.#turn.run(async () => {
      if (!this.#paused.has(container)) return;
      // One time too often would be the sandbox's end.
      await container.noteResumed();
      this.#paused.delete(container);
      await this.control.resume();
    });
  }

  /** Takes note of a container that an earlier sandboxer had paused. */
  wasPaused(container: GvisorContainer): void {
    this.#paused.add(container);
  }

  /** Does something that needs running processes, while some containers may be paused. */
  async whileRunning<T>(work: () => Promise<T>): Promise<T> {
    if (this.#paused.size === 0) return await work();
    return await this.#turn.run(async () => {
      const paused = [...this.#paused];
      for (const container of paused) {
        await container.noteResumed();
        this.#paused.delete(container);
        await this.control.resume();
      }
      try {
        return await work();
      } finally {
        for (const container of paused) {
          if (this.#over || !this.#containers.has(container.spec.id)) continue;
          await this.control.pause();
          this.#paused.add(container);
          await container.notePaused();
        }
      }
    });
  }

  /** Takes a container away that is in the sandbox, running or not. */
  async destroy(container: string): Promise<void> {
    try {
      await this.control.destroy(container);
    } catch (error) {
      const { code } = SandboxError.from(error);
      if (code === "DeadlineExceeded") await this.giveUp("it does not answer");
      else if (code !== "NotFound" && code !== "Unavailable") throw error;
    }
    await removeRecord(this.#parts.root, { id: container, sandboxId: this.sandbox });
  }

  /** Hears no more of a container. */
  forget(container: string): void {
    if (this.#containers.delete(container) && !this.#over && !this.#stopping) {
      this.limit().catch((error: unknown) => {
        if (this.#over || this.#stopping) return;
        this.#parts.log.warn("cannot limit a pod", {
          sandbox: this.spec.id,
          error: SandboxError.from(error),
        });
      });
    }
  }

  /** Ends everything in it and releases all of it. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    const { root, sandbox, directory, cgroup, launcher, onRemoved } = this.#parts;
    if (graceMs > 0 && !this.#over && this.#paused.size === 0) await this.#endProcesses(graceMs);
    const containers = [...this.#containers.values()];
    const records = [sandbox, ...containers.map(({ spec }) => spec.id)];
    await this.#kill();
    await Promise.all([
      ...containers.map((container) => container.release()),
      ...records.map((id) => removeRecord(root, { id, sandboxId: sandbox })),
      ...(cgroup === "" ? [] : [launcher.removeCgroup(cgroup)]),
      giveBackAddresses(launcher, directory),
    ]);
    await removeTree(directory);
    onRemoved();
  }

  async #endProcesses(graceMs: number): Promise<void> {
    const end = Date.now() + graceMs;
    const running = () => [...this.#containers.values()].flatMap(({ running }) => running);
    for (const process of running()) process.kill(SIGTERM).catch(() => undefined);
    while (running().length > 0 && Date.now() < end && !this.#over) {
      await new Promise((resolve) => setTimeout(resolve, GRACE_POLL_MS));
    }
  }

  /** Kills a sandbox that nothing can be done with any more; all its processes end with it. */
  async giveUp(reason: string): Promise<void> {
    if (this.#over) return;
    this.#parts.log.error("ending a sandbox", { sandbox: this.spec.id, reason });
    await this.#endProcess();
  }

  async #endProcess(): Promise<void> {
    const { launcher, pid } = this.#parts;
    // Where it is not known, the number is its own for as long as it has not ended.
    const identity = await this.#identity?.catch(() => undefined) ?? await launcher.identify(pid);
    if (identity !== undefined && !this.#over) await launcher.kill(identity);
  }

  /** Ends the sandbox; its gofers end with it. */
  async #kill(): Promise<void> {
    if (this.#over) return;
    await this.#endProcess();
    this.#end({ status: 0, at: Date.now(), reason: "exited" });
  }

  async #supervise(): Promise<void> {
    const { control, sandbox, leaving, log } = this.#parts;
    while (!leaving.aborted && !this.#over) {
      try {
        await control.wait(sandbox, leaving);
        break;
      } catch (error) {
        const { code } = SandboxError.from(error);
        if (leaving.aborted || code === "Unavailable" || code === "NotFound") break;
        log.warn("cannot watch a sandbox", { sandbox: this.spec.id, error });
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    if (leaving.aborted) return;
    const at = Date.now();
    if (this.#stopping) return this.#end({ status: 0, at, reason: "exited" });
    const ranOut = await this.ranOutOfMemory();
    const words = await lastWords(this.directory);
    this.#end({
      status: KILLED_STATUS,
      at,
      reason: ranOut ? "oom" : "lost",
      message: ranOut
        ? "the pod ran out of memory"
        : `the sandbox has ended${words === "" ? "" : `: ${words}`}`,
    });
  }

  #end(exit: Exit): void {
    this.#over = true;
    this.#exit.resolve(exit);
  }
}
