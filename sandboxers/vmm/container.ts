/**
 * A container in a guest: its root file system and volumes are brought to the guest, the agent runs
 * it there, and what it writes comes back.
 *
 * @module
 */

import type { ProcessName } from "../../guest/protocol/messages.ts";
import type { ContainerHandle, ProcessHandle } from "../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { ContainerSpec, ExecSpec, Json, ResourceSpec, Stats } from "../lifecycle/spec.ts";
import type { Agent } from "./agent.ts";
import type { ContainerFiles, ContainerImage, NewContainerFiles } from "./container_files.ts";
import { guestProcess, guestResources } from "./oci/guest_config.ts";
import { VmProcess } from "./process.ts";
import type { OpenStreams, Streams } from "./streams.ts";
import { containerStats } from "./usage.ts";

/** How long the agent may take, in milliseconds: an emulated guest on a busy host is slow. */
const CREATE_MS = 60_000;
const START_MS = 60_000;
/** How long the guest may take to give up a container that nobody waits for any more. */
const GIVE_UP_MS = 20_000;
/** How often a container is looked at that is still being made and has to go, in milliseconds. */
const LOOK_MS = 100;
const SIGKILL = 9;

/** The pod of a container, as far as that needs it. */
export interface ContainerPod {
  /** The process id of the VMM. */
  readonly pid: number;
  /** The agent in the guest. */
  readonly agent: Agent;
  /** Opens streams to the guest. */
  readonly streams: Streams;
  /** Whether its guest has ended: then nothing is left in it. */
  readonly over: boolean;
  /** Hears of the end of processes. */
  watch(process: VmProcess): void;
  /** Hears no more of a process that was not started. */
  unwatch(process: VmProcess): void;
  /** Hears no more of a container. */
  forget(name: string): void;
  /** A name for a new container that the guest has none by yet: its id, where that is free. */
  freeName(id: string): string;
}

/** A container that was created. */
export class VmContainer implements ContainerHandle {
  /** What the next sandboxer needs to release its files. */
  readonly record: Json;
  /** What was asked for. */
  readonly spec: ContainerSpec;
  /** What the guest calls it. */
  readonly name: string;
  readonly #pod: ContainerPod;
  readonly #files: ContainerFiles;
  /** Made with the container, as its streams are. */
  readonly #init: VmProcess;
  readonly #begin: "startContainer" | "resume";
  #lastStats: Stats | undefined;
  #deleted = false;

  /**
   * Describes a container that the guest has.
   *
   * @param pod Its pod.
   * @param spec What was asked for.
   * @param files What it has of the host; the new object owns them.
   * @param init Its init process, started or not; what the guest calls that is the container's name.
   * @param begin How the init process is started: anew, or by thawing one that was saved.
   */
  constructor(
    pod: ContainerPod,
    spec: ContainerSpec,
    files: ContainerFiles,
    init: VmProcess,
    begin: "startContainer" | "resume" = "startContainer",
  ) {
    this.spec = spec;
    this.name = init.name.container;
    this.#pod = pod;
    this.#files = files;
    this.#init = init;
    this.#begin = begin;
    this.record = files.record;
  }

  /** The image of its root file system, on the host. */
  get image(): ContainerImage | undefined {
    return this.#files.image;
  }

  /**
   * Makes a container ready to start.
   *
   * @param pod Its pod.
   * @param spec What is asked for; its root file system is in place.
   * @param files What it has of the host; the new object owns them once it is returned.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} What the agent says; then nothing is left of it in the guest.
   */
  static async create(
    pod: ContainerPod,
    spec: ContainerSpec,
    files: NewContainerFiles,
    signal: AbortSignal,
  ): Promise<VmContainer> {
    const label = `container "${spec.id}"`;
    throwIfAborted(signal, `cannot create ${label}`);
    const opened = pod.streams.open(spec.stdio, label);
    const name = pod.freeName(spec.id);
    const init = newProcess(pod, { container: name, exec: "" }, opened);
    const { config, rootfs, mounts } = files;
    try {
      await pod.agent.request("createContainer", {
        id: name,
        ...config,
        rootfs,
        mounts,
        stdio: opened.guest,
      }, { signal, timeoutMs: CREATE_MS });
      return new VmContainer(pod, spec, files, init);
    } catch (error) {
      pod.forget(name);
      opened.streams[Symbol.dispose]();
      if (isUnanswered(error)) await deleteLate(pod, name);
      throw error;
    }
  }

  /** Starts the init process. */
  async start(signal: AbortSignal): Promise<ProcessHandle> {
    const request = { container: this.name };
    await this.#pod.agent.request(this.#begin, request, { signal, timeoutMs: START_MS });
    return this.#init;
  }

  /** Starts a process beside it. */
  async exec(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle> {
    const name = { container: this.name, exec: spec.id };
    const opened = this.#pod.streams.open(spec.stdio, `exec "${spec.id}"`);
    const process = newProcess(this.#pod, name, opened);
    try {
      await this.#pod.agent.request("exec", {
        ...name,
        process: guestProcess(spec.process, spec.stdio.terminal),
        stdio: opened.guest,
      }, { signal, timeoutMs: START_MS });
      return process;
    } catch (error) {
      await process.lost({ status: 255, at: Date.now(), reason: "lost" });
      this.#pod.unwatch(process);
      if (isUnanswered(error)) {
        // It may run although nobody knows of it.
        this.#pod.agent.request("kill", { ...name, signal: SIGKILL }).catch(() => undefined);
      }
      throw error;
    }
  }

  /** Freezes it. */
  async pause(): Promise<void> {
    await this.#pod.agent.request("pause", { container: this.name });
  }

  /** Thaws it. */
  async resume(): Promise<void> {
    await this.#pod.agent.request("resume", { container: this.name });
  }

  /** Changes its limits. */
  async update(resources: ResourceSpec): Promise<void> {
    const request = { container: this.name, resources: guestResources(resources) };
    await this.#pod.agent.request("update", request);
  }

  /** The VMM's process id while it runs: ids inside of the guest mean nothing on the host. */
  pids(): Promise<readonly number[]> {
    return Promise.resolve(this.#init.over ? [] : [this.#pod.pid]);
  }

  /** What it uses; after its end, what it used last. */
  async stats(): Promise<Stats> {
    if (!this.#init.over || this.#lastStats === undefined) {
      const usage = await this.#pod.agent.request("usage", {});
      const own = usage.containers.find(({ container }) => container === this.name);
      if (own !== undefined) this.#lastStats = containerStats(own);
    }
    return this.#lastStats ?? { at: Date.now(), cpuNs: 0, memoryBytes: 0, pids: 0 };
  }

  /** Kills what still runs and releases everything. */
  async delete(): Promise<void> {
    if (this.#deleted) return;
    const request = { container: this.name };
    try {
      await this.#pod.agent.request("deleteContainer", request, { timeoutMs: CREATE_MS });
    } catch (error) {
      // An earlier call may have got this far.
      if (!this.#pod.over && SandboxError.from(error).code !== "NotFound") throw error;
    }
    await this.release();
  }

  /** Brings what it wrote for the host to the host, once it has ended. */
  async readBack(): Promise<void> {
    await this.#files.readBack();
  }

  /** Releases what is on the host; the guest has gone, or has deleted it. */
  async release(): Promise<void> {
    if (this.#deleted) return;
    await this.#files.release();
    this.#deleted = true;
    this.#pod.forget(this.name);
  }
}

/**
 * A process about to be made, whose end is heard of from here on.
 *
 * @param opened Its streams.
 */
export function newProcess(
  pod: ContainerPod,
  name: ProcessName,
  opened: Pick<OpenStreams, "streams">,
): VmProcess {
  const process = new VmProcess(pod.agent, name, pod.pid, opened.streams);
  pod.watch(process);
  return process;
}

/** Whether a request failed without an answer of the agent: it may have done what was asked. */
function isUnanswered(error: unknown): boolean {
  return ["Cancelled", "DeadlineExceeded", "Unavailable"].includes(SandboxError.from(error).code);
}

/** Deletes a container that nobody waits for any more, once the guest has made it. Never throws. */
async function deleteLate(pod: ContainerPod, container: string): Promise<void> {
  for (const end = Date.now() + GIVE_UP_MS; !pod.over && Date.now() < end;) {
    try {
      await pod.agent.request("deleteContainer", { container }, { timeoutMs: GIVE_UP_MS });
      return;
    } catch (error) {
      // The agent refuses while it makes it.
      if (SandboxError.from(error).code !== "FailedPrecondition") return;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
