/**
 * A pod that is a microVM, as the lifecycle sees it. Its guest can be replaced by one with a shared
 * tree as long as it has no container; after that it lives and dies with its guest.
 *
 * @module
 */

import type { AgentEvent, ProcessExit, ProcessName } from "../../guest/protocol/messages.ts";
import type { ContainerHandle, SandboxHandle } from "../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import { Serial } from "../lifecycle/serial.ts";
import type { Observer } from "../lifecycle/observer.ts";
import {
  type ContainerSpec,
  type Exit,
  type Json,
  KILLED_STATUS,
  type ResourceSpec,
  type SandboxSpec,
  type Stats,
} from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import type { Agent } from "./agent.ts";
import { type ContainerPod, VmContainer } from "./container.ts";
import type { ContainerFiles, ContainerFilesOpener } from "./container_files.ts";
import type { Guest } from "./guest.ts";
import type { VmProcess } from "./process.ts";
import type { PodVolumes } from "./storage/pod_volumes.ts";
import type { Streams } from "./streams.ts";
import { guestStats } from "./usage.ts";

const SIGTERM = 15;
/** Most exits that are kept of processes nobody knows. */
const UNCLAIMED_MAX = 1000;
/**
 * How long after an exit the guest may forget it, in milliseconds: the next sandboxer asks the guest
 * for what this one has not written down when it is killed.
 */
const ACKNOWLEDGE_MS = 2_000;
/** How often processes that have to end are looked at, in milliseconds. */
const GRACE_POLL_MS = 20;

/** What pods work with. */
export interface PodContext {
  /** Brings files of containers to guests. */
  readonly files: ContainerFilesOpener;
  /** Opens streams to a guest. */
  streams(guest: Guest): Streams;
  /** Starts a guest with a shared tree in the place of one without. */
  replace(pod: VmPod, old: Guest, signal: AbortSignal): Promise<Guest>;
  /** Where task calls are taken; undefined without containerd. */
  readonly taskSocket: string | undefined;
  /** Hears of the phases of starts. */
  readonly observer: Observer;
  /** Where notes go. */
  readonly log: Log;
}

/** A container that was saved with the guest that it runs in. */
export interface SavedContainer {
  /** What the guest calls it. */
  readonly name: string;
  /** Makes a container of it. */
  takeOver(pod: VmPod, spec: ContainerSpec): Promise<VmContainer>;
  /** Lets go of what it has of the host, where nobody took it over. May be called more than once. */
  release(): Promise<void>;
}

/** What a pod is made of. */
export interface PodParts {
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** Its directory on the host. */
  readonly directory: string;
  /** Its guest. */
  readonly guest: Guest;
  /** The host's files that its containers see. */
  readonly volumes: PodVolumes;
  /** Whether its guest may be replaced by one with a shared tree. */
  readonly mayShare: boolean;
  /** Whether it has ever had a container: then its guest holds what nobody may lose. */
  readonly isUsed: boolean;
  /** Containers that were saved with its guest and wait to be taken over, by their new ids. */
  readonly saved?: ReadonlyMap<string, SavedContainer>;
  /** Takes note, for the next sandboxer, that it has had one. */
  onUsed(): Promise<void>;
  /** Takes away what is left of it on the host, after its guest. */
  remove(): Promise<void>;
}

/** A pod. */
export class VmPod implements SandboxHandle, ContainerPod {
  /** VMMs outlive the sandboxer. */
  readonly outlivesSandboxer = true;
  /** The directory; all else is in a file there, as the guest may change. */
  readonly record: Json;
  readonly taskSocket?: string;
  readonly #context: PodContext;
  readonly #parts: PodParts;
  /** By the names that the guest knows them by. */
  readonly #containers = new Map<string, VmContainer>();
  readonly #saved: Map<string, SavedContainer>;
  readonly #processes = new Map<string, VmProcess>();
  readonly #exit = Promise.withResolvers<Exit>();
  /** Exits of processes that nobody has asked for yet; undefined once all of them are known. */
  #unclaimed: Map<string, ProcessExit> | undefined;
  /** Exits that the guest may forget. */
  #noted: ProcessName[] = [];
  #acknowledging: ReturnType<typeof setTimeout> | undefined;
  /** Files of containers that could not be made, and could not be released. */
  readonly #left = new Set<ContainerFiles>();
  #guest: Guest;
  #streams: Streams;
  #stopping = false;
  #used: boolean;
  #ending: Promise<void> | undefined;
  readonly #turn = new Serial();
  readonly #making = new Set<Promise<unknown>>();
  /** Settles when nothing is done any more that no container may be made meanwhile. */
  #still: Promise<void> = Promise.resolve();
  /** The guest that is being replaced: its end is no end of the pod. */
  #leaving: Guest | undefined;

  /**
   * Takes a guest over.
   *
   * @param context See {@link PodContext}.
   * @param parts See {@link PodParts}.
   */
  constructor(context: PodContext, parts: PodParts) {
    this.#context = context;
    this.#parts = parts;
    this.record = { directory: parts.directory };
    if (context.taskSocket !== undefined) this.taskSocket = context.taskSocket;
    this.#used = parts.isUsed;
    this.#saved = new Map(parts.saved);
    this.#unclaimed = parts.isUsed ? new Map() : undefined;
    this.#guest = parts.guest;
    this.#streams = context.streams(parts.guest);
    this.#supervise(parts.guest);
  }

  /** What was asked for. */
  get spec(): SandboxSpec {
    return this.#parts.spec;
  }

  /** Its directory on the host. */
  get directory(): string {
    return this.#parts.directory;
  }

  /** Its guest. */
  get guest(): Guest {
    return this.#guest;
  }

  /** The files of the host that its containers see. */
  get volumes(): PodVolumes {
    return this.#parts.volumes;
  }

  /** The process id of its VMM. */
  get pid(): number {
    return this.#guest.machine.pid;
  }

  /** The agent in its guest. */
  get agent(): Agent {
    return this.#guest.agent;
  }

  /** Opens streams to its guest. */
  get streams(): Streams {
    return this.#streams;
  }

  /** Whether its guest has ended. */
  get over(): boolean {
    return this.#ending !== undefined || this.#guest.over;
  }

  /** Settles when the guest has ended. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** Its containers, in the order in which they were made. */
  get containers(): readonly VmContainer[] {
    return [...this.#containers.values()];
  }

  /** Makes a container ready to start, or takes over one that was saved with the guest. */
  async createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    const making = this.#still.then(() => this.#createContainer(spec, signal));
    this.#making.add(making);
    try {
      return await making;
    } finally {
      this.#making.delete(making);
    }
  }

  /** Does something while no container is being made: none is half-made in a snapshot. */
  async whileStill<T>(work: () => Promise<T>): Promise<T> {
    const making = [...this.#making];
    const before = this.#still;
    const done = before.then(async () => {
      await Promise.allSettled(making);
      return await work();
    });
    this.#still = done.then(() => undefined, () => undefined);
    return await done;
  }

  async #createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    const saved = this.#saved.get(spec.id);
    if (saved !== undefined) {
      const container = await saved.takeOver(this, spec);
      this.#saved.delete(spec.id);
      this.#containers.set(container.name, container);
      return container;
    }
    const begin = performance.now();
    await this.#turn.run(() => this.#prepare(spec, signal));
    const { files: opener, observer } = this.#context;
    const files = await opener.open(this.#parts.volumes, this.#guest, spec, signal);
    const opened = performance.now();
    observer.phase("container_create", "rootfs", begin, opened);
    try {
      const container = await VmContainer.create(this, spec, files, signal);
      observer.phase("container_create", "guest", opened);
      this.#containers.set(container.name, container);
      return container;
    } catch (error) {
      await this.#giveUp(files);
      throw error;
    }
  }

  /** Releases the files of a container that was not made; where that fails the pod's end does. */
  async #giveUp(files: ContainerFiles): Promise<void> {
    try {
      await files.release();
    } catch (error) {
      this.#left.add(files);
      this.#context.log.warn("cannot release the files of a container", {
        sandbox: this.spec.id,
        error: SandboxError.from(error),
      });
    }
  }

  /** Takes note of a container that an earlier sandboxer had made. */
  addContainer(id: string, container: VmContainer): void {
    this.#containers.set(id, container);
  }

  /** Grows the machine, where it can. */
  async update(resources: ResourceSpec): Promise<void> {
    const { machine, agent } = this.#guest;
    if (machine.grow === undefined) {
      throw new SandboxError(
        "Unimplemented",
        `cannot change the limits of sandbox "${this.spec.id}": its machine cannot grow: ` +
          `machines of the type "q35" can`,
      );
    }
    const { memoryBytes = 0, cpuQuotaUs = 0, cpuPeriodUs = 100_000 } = resources;
    await machine.grow({ cpus: Math.ceil(cpuQuotaUs / cpuPeriodUs), memoryBytes });
    await agent.request("online", {});
  }

  /** What the guest uses. */
  async stats(): Promise<Stats> {
    return guestStats(await this.agent.request("usage", {}));
  }

  /** Hears of the end of a process. */
  watch(process: VmProcess): void {
    const key = keyOf(process.name);
    this.#processes.set(key, process);
    const exit = this.#unclaimed?.get(key);
    if (exit === undefined) return;
    this.#unclaimed?.delete(key);
    // Not before whoever made the process has it.
    setTimeout(() => void this.#processEnded(exit), 0);
  }

  /** Hears no more of a process that was not started. */
  unwatch(process: VmProcess): void {
    const key = keyOf(process.name);
    if (this.#processes.get(key) === process) this.#processes.delete(key);
  }

  /** Hears no more of a container. What was not heard of the ends of its processes is lost. */
  forget(container: string): void {
    this.#containers.delete(container);
    const exit: Exit = { status: KILLED_STATUS, at: Date.now(), reason: "lost" };
    for (const [key, process] of this.#processes) {
      if (process.name.container !== container) continue;
      this.#processes.delete(key);
      void process.lost({ ...exit, message: "its container was deleted" });
    }
  }

  /** A name for a new container that the guest has none by yet. */
  freeName(id: string): string {
    const isSaved = [...this.#saved.values()].some(({ name }) => name === id);
    return isSaved || this.#containers.has(id) ? `${id}-${crypto.randomUUID().slice(0, 8)}` : id;
  }

  /** All that an earlier sandboxer had made is known: what else ends in the guest is nobody's. */
  takenOver(): void {
    const rest = [...this.#unclaimed?.values() ?? []];
    this.#unclaimed = undefined;
    for (const exit of rest) this.#acknowledge(exit);
  }

  /**
   * Takes note of what the agent says.
   *
   * @param event What it says.
   */
  hear(event: AgentEvent): void {
    switch (event.kind) {
      case "exit":
        return void this.#processEnded(event.exit);
      case "log":
        return this.#context.log[event.level](event.message, { sandbox: this.spec.id });
      case "oom":
        return this.#context.log.info("a container ran out of memory", {
          sandbox: this.spec.id,
          container: event.container,
        });
      case "ready":
        return;
    }
  }

  /** Leaves it to the next sandboxer. */
  async leave(): Promise<void> {
    this.#leaving = this.#guest;
    // The next one is told again, and knows by then.
    clearTimeout(this.#acknowledging);
    await this.#guest.leave();
  }

  /** Ends everything in it and releases all of it. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    if (graceMs > 0 && !this.over) await this.#endProcesses(graceMs);
    await this.#guest.stop();
    await this.#end({ status: 0, at: Date.now(), reason: "exited" });
    for (const container of [...this.#containers.values()]) await container.release();
    for (const files of this.#left) {
      await files.release();
      this.#left.delete(files);
    }
    for (const saved of this.#saved.values()) await saved.release();
    await this.#parts.volumes.release();
    await this.#parts.remove();
  }

  async #endProcesses(graceMs: number): Promise<void> {
    const end = Date.now() + graceMs;
    const running = () => [...this.#processes.values()].filter(({ over }) => !over);
    for (const process of running()) process.kill(SIGTERM).catch(() => undefined);
    while (running().length > 0 && Date.now() < end && !this.over) {
      await new Promise((resolve) => setTimeout(resolve, GRACE_POLL_MS));
    }
  }

  /**
   * Gets the guest ready for a container. One at a time: the first decides whether the guest has a
   * shared tree, and from then on it stays.
   */
  async #prepare(spec: ContainerSpec, signal: AbortSignal): Promise<void> {
    throwIfAborted(signal, `cannot create container "${spec.id}"`);
    await this.#shareWhereNeeded(spec, signal);
    if (this.#used) return;
    try {
      await this.#parts.onUsed();
      this.#used = true;
    } catch (error) {
      await this.#parts.volumes.forget(spec.id);
      throw error;
    }
  }

  async #shareWhereNeeded(spec: ContainerSpec, signal: AbortSignal): Promise<void> {
    if (this.#guest.hasSharedTree || spec.mounts.length === 0) return;
    const reason = await this.#parts.volumes.whySharedTree(spec, signal);
    if (reason === undefined) return;
    const action = `cannot create container "${spec.id}": ${reason}`;
    if (!this.#parts.mayShare) {
      throw new SandboxError(
        "FailedPrecondition",
        `${action} needs a shared tree, which this pod or the configuration rules out`,
      );
    }
    if (this.#used) {
      throw new SandboxError(
        "FailedPrecondition",
        `${action} needs a shared tree, and the pod was started without one: give it the ` +
          `annotation "quasaur.dev/share-fs: virtiofs"`,
      );
    }
    const old = this.#guest;
    this.#leaving = old;
    try {
      this.#guest = await this.#context.replace(this, old, signal);
    } catch (error) {
      // The old guest has gone already.
      const { message } = SandboxError.from(error);
      await this.#end({ status: KILLED_STATUS, at: Date.now(), reason: "lost", message });
      throw error;
    }
    this.#streams = this.#context.streams(this.#guest);
    this.#supervise(this.#guest);
  }

  /** Ends the pod where its guest ends, or its agent does not answer any more. */
  #supervise(guest: Guest): void {
    const { machine, agent } = guest;
    let lostAgent: SandboxError | undefined;
    guest.listen((event) => this.hear(event));
    void machine.exited.then(({ reason, at, message }) => {
      if (this.#leaving === guest) return;
      if (this.#stopping) return this.#end({ status: 0, at, reason: "exited" });
      const text = lostAgent?.message ??
        (message === "" ? `the guest has ended (${reason})` : message);
      return this.#end({ status: KILLED_STATUS, at, reason: "lost", message: text });
    });
    void agent.closed.then(async (error) => {
      if (this.#stopping || this.over || this.#leaving === guest) return;
      lostAgent = error;
      const { id: sandbox } = this.spec;
      this.#context.log.error("ending a guest whose agent does not answer", { sandbox, error });
      try {
        await machine.stop();
      } catch (failure) {
        this.#context.log.error("cannot end a machine", { sandbox, error: failure });
      }
    });
  }

  async #processEnded(exit: ProcessExit): Promise<void> {
    const { container, exec } = exit;
    const process = this.#processes.get(keyOf(exit));
    if (process === undefined) {
      // A guest that is being taken over tells of exits before its processes are known here.
      if (this.#unclaimed === undefined) this.#acknowledge(exit);
      else if (this.#unclaimed.size < UNCLAIMED_MAX) this.#unclaimed.set(keyOf(exit), exit);
      return;
    }
    // Whoever hears of the end of a container reads what it has left.
    if (exec === "") await this.#containers.get(container)?.readBack();
    await process.ended(exit);
    if (exec !== "") this.unwatch(process);
    this.#acknowledge(exit);
  }

  /** Lets the guest forget an exit, a while later. */
  #acknowledge({ container, exec }: ProcessName): void {
    // Beyond that the guest keeps them, and tells them again to the next host.
    if (this.#noted.length < UNCLAIMED_MAX) this.#noted.push({ container, exec });
    this.#acknowledgeLater();
  }

  #acknowledgeLater(): void {
    if (this.over || this.#leaving === this.#guest || this.#noted.length === 0) return;
    this.#acknowledging ??= setTimeout(() => void this.#acknowledgeAll(), ACKNOWLEDGE_MS);
  }

  async #acknowledgeAll(): Promise<void> {
    const { agent } = this;
    for (const name of this.#noted.splice(0)) {
      // Where that fails it is told again, to whoever asks next.
      await agent.request("acknowledgeExit", name).catch(() => undefined);
    }
    this.#acknowledging = undefined;
    this.#acknowledgeLater();
  }

  #end(exit: Exit): Promise<void> {
    return this.#ending ??= this.#endOnce(exit);
  }

  async #endOnce(exit: Exit): Promise<void> {
    clearTimeout(this.#acknowledging);
    await Promise.all([...this.#processes.values()].map((process) => process.lost(exit)));
    this.#exit.resolve(exit);
  }
}

function keyOf({ container, exec }: { readonly container: string; readonly exec: string }): string {
  return `${container}/${exec}`;
}
