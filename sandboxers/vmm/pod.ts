/**
 * A pod that is a microVM, as the lifecycle sees it. Its guest can be replaced by one with a shared
 * tree as long as it has no container; after that it lives and dies with its guest.
 *
 * @module
 */

import type { AgentEvent, ProcessExit } from "../../guest/protocol/messages.ts";
import type { ContainerHandle, SandboxHandle } from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
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
import type { ContainerFilesOpener } from "./container_files.ts";
import type { Guest } from "./guest.ts";
import type { VmProcess } from "./process.ts";
import type { PodVolumes } from "./storage/pod_volumes.ts";
import type { Streams } from "./streams.ts";
import { guestStats } from "./usage.ts";

const SIGTERM = 15;
/** Most exits that are kept of processes nobody knows. */
const UNCLAIMED_MAX = 1000;
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
  /** Where notes go. */
  readonly log: Log;
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
  readonly #containers = new Map<string, VmContainer>();
  readonly #processes = new Map<string, VmProcess>();
  readonly #exit = Promise.withResolvers<Exit>();
  /** Exits of processes that nobody has asked for yet. */
  readonly #unclaimed = new Map<string, ProcessExit>();
  #guest: Guest;
  #streams: Streams;
  #stopping = false;
  #used: boolean;
  #over = false;
  #turn: Promise<unknown> = Promise.resolve();
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

  /** Settles when the guest has ended. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** Makes a container ready to start. */
  async createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    await this.#shareWhereNeeded(spec, signal);
    const { files: opener } = this.#context;
    if (!this.#used) await this.#parts.onUsed();
    this.#used = true;
    const files = await opener.open(this.#parts.volumes, this.#guest, spec, signal);
    try {
      const container = await VmContainer.create(this, spec, files, signal);
      this.#containers.set(spec.id, container);
      return container;
    } catch (error) {
      await files.release();
      throw error;
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
    const exit = this.#unclaimed.get(key);
    if (exit === undefined) return;
    this.#unclaimed.delete(key);
    // Not before whoever made the process has it.
    setTimeout(() => void this.#processEnded(exit), 0);
  }

  /** Hears no more of a container. */
  forget(containerId: string): void {
    this.#containers.delete(containerId);
    for (const [key, { name }] of this.#processes) {
      if (name.container === containerId) this.#processes.delete(key);
    }
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
    await this.#guest.leave();
  }

  /** Ends everything in it and releases all of it. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    if (graceMs > 0 && !this.#over) await this.#endProcesses(graceMs);
    await this.#guest.stop();
    await this.#end({ status: 0, at: Date.now(), reason: "exited" });
    for (const container of [...this.#containers.values()]) await container.release();
    await this.#parts.volumes.release();
    await this.#parts.remove();
  }

  async #endProcesses(graceMs: number): Promise<void> {
    const end = Date.now() + graceMs;
    const running = () => [...this.#processes.values()].filter(({ over }) => !over);
    await Promise.allSettled(running().map((process) => process.kill(SIGTERM)));
    while (running().length > 0 && Date.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, GRACE_POLL_MS));
    }
  }

  /** One at a time: the first container decides, and the others see what it decided. */
  async #shareWhereNeeded(spec: ContainerSpec, signal: AbortSignal): Promise<void> {
    const turn = this.#turn.then(() => this.#shareOnce(spec, signal));
    this.#turn = turn.catch(() => undefined);
    await turn;
  }

  async #shareOnce(spec: ContainerSpec, signal: AbortSignal): Promise<void> {
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
    guest.listen((event) => this.hear(event));
    void machine.exited.then(({ reason, at, message }) => {
      if (this.#stopping || this.#leaving === guest) return;
      const text = message === "" ? `the guest has ended (${reason})` : message;
      return this.#end({ status: KILLED_STATUS, at, reason: "lost", message: text });
    });
    void agent.closed.then(async (error) => {
      if (this.#stopping || this.#over || this.#leaving === guest) return;
      this.#context.log.error("ending a guest whose agent does not answer", {
        sandbox: this.spec.id,
        error,
      });
      await machine.stop();
    });
  }

  async #processEnded(exit: ProcessExit): Promise<void> {
    const { container, exec } = exit;
    const process = this.#processes.get(keyOf(exit));
    if (process === undefined) {
      // A guest that is being taken over tells of exits before its processes are known here.
      if (this.#unclaimed.size < UNCLAIMED_MAX) this.#unclaimed.set(keyOf(exit), exit);
      return;
    }
    // Whoever hears of the end of a container reads what it has left.
    if (exec === "") await this.#containers.get(container)?.readBack();
    await process.ended(exit);
    if (exec !== "") this.#processes.delete(keyOf(exit));
    try {
      await this.agent.request("acknowledgeExit", { container, exec });
    } catch {
      // It is told again, to whoever asks next.
    }
  }

  async #end(exit: Exit): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await Promise.all([...this.#processes.values()].map((process) => process.lost(exit)));
    this.#exit.resolve(exit);
  }
}

function keyOf({ container, exec }: { readonly container: string; readonly exec: string }): string {
  return `${container}/${exec}`;
}
