/**
 * A container in a guest: its root file system and volumes are brought to the guest, the agent runs
 * it there, and what it writes comes back.
 *
 * @module
 */

import type { ProcessName } from "../../guest/protocol/messages.ts";
import type { ContainerHandle, ProcessHandle } from "../lifecycle/driver.ts";
import { throwIfAborted } from "../lifecycle/errors.ts";
import type { ContainerSpec, ExecSpec, Json, ResourceSpec, Stats } from "../lifecycle/spec.ts";
import type { Agent } from "./agent.ts";
import type { ContainerFiles, NewContainerFiles } from "./container_files.ts";
import { guestProcess, guestResources } from "./oci/guest_config.ts";
import { VmProcess } from "./process.ts";
import type { OpenStreams, Streams } from "./streams.ts";
import { containerStats } from "./usage.ts";

/** How long the agent may take, in milliseconds: an emulated guest on a busy host is slow. */
const CREATE_MS = 60_000;
const START_MS = 60_000;

/** The pod of a container, as far as that needs it. */
export interface ContainerPod {
  /** The process id of the VMM. */
  readonly pid: number;
  /** The agent in the guest. */
  readonly agent: Agent;
  /** Opens streams to the guest. */
  readonly streams: Streams;
  /** Hears of the end of processes. */
  watch(process: VmProcess): void;
  /** Hears no more of a container. */
  forget(containerId: string): void;
}

/** A container that was created. */
export class VmContainer implements ContainerHandle {
  /** What the next sandboxer needs to release its files. */
  readonly record: Json;
  readonly #pod: ContainerPod;
  readonly #spec: ContainerSpec;
  readonly #files: ContainerFiles;
  /** Made with the container, as its streams are. */
  readonly #init: VmProcess;
  #lastStats: Stats | undefined;
  #deleted = false;

  /**
   * Describes a container that the guest has.
   *
   * @param pod Its pod.
   * @param spec What was asked for.
   * @param files What it has of the host; the new object owns them.
   * @param init Its init process, started or not.
   */
  constructor(pod: ContainerPod, spec: ContainerSpec, files: ContainerFiles, init: VmProcess) {
    this.#pod = pod;
    this.#spec = spec;
    this.#files = files;
    this.#init = init;
    this.record = files.record;
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
    const init = newProcess(pod, { container: spec.id, exec: "" }, opened);
    const { config, rootfs, mounts } = files;
    try {
      await pod.agent.request("createContainer", {
        id: spec.id,
        ...config,
        rootfs,
        mounts,
        stdio: opened.guest,
      }, { signal, timeoutMs: CREATE_MS });
      return new VmContainer(pod, spec, files, init);
    } catch (error) {
      pod.forget(spec.id);
      opened.streams[Symbol.dispose]();
      // It may have been made although the answer did not come.
      await pod.agent.request("deleteContainer", { container: spec.id }).catch(() => undefined);
      throw error;
    }
  }

  /** Starts the init process. */
  async start(signal: AbortSignal): Promise<ProcessHandle> {
    const request = { container: this.#spec.id };
    await this.#pod.agent.request("startContainer", request, { signal, timeoutMs: START_MS });
    return this.#init;
  }

  /** Starts a process beside it. */
  async exec(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle> {
    const name = { container: this.#spec.id, exec: spec.id };
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
      throw error;
    }
  }

  /** Freezes it. */
  async pause(): Promise<void> {
    await this.#pod.agent.request("pause", { container: this.#spec.id });
  }

  /** Thaws it. */
  async resume(): Promise<void> {
    await this.#pod.agent.request("resume", { container: this.#spec.id });
  }

  /** Changes its limits. */
  async update(resources: ResourceSpec): Promise<void> {
    const request = { container: this.#spec.id, resources: guestResources(resources) };
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
      const own = usage.containers.find(({ container }) => container === this.#spec.id);
      if (own !== undefined) this.#lastStats = containerStats(own);
    }
    return this.#lastStats ?? { at: Date.now(), cpuNs: 0, memoryBytes: 0, pids: 0 };
  }

  /** Kills what still runs and releases everything. */
  async delete(): Promise<void> {
    if (this.#deleted) return;
    await this.#pod.agent.request("deleteContainer", { container: this.#spec.id }, {
      timeoutMs: CREATE_MS,
    });
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
    this.#pod.forget(this.#spec.id);
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
