/**
 * Containers and processes of a pod that runs in its own process, as the lifecycle sees them.
 *
 * @module
 */

import type { ContainerHandle, ProcessHandle } from "../../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type {
  ContainerSpec,
  ExecSpec,
  Exit,
  Json,
  ResourceSpec,
  Stats,
} from "../../lifecycle/spec.ts";
import type { System } from "../native/system.ts";
import type { CompileWishes } from "./compile_wishes.ts";
import { passExec } from "./passed_files.ts";
import type { ProcessPod } from "./process_pod.ts";

/** What a {@link RemoteContainer} works with. */
export interface RemoteContainerOptions {
  /** Opens the streams of execs. */
  readonly system: System;
  /** Learns of the programs that run. */
  readonly wishes: CompileWishes;
  /** Called when it was deleted. */
  readonly onDelete: () => void;
}

/** A container in a pod process. */
export class RemoteContainer implements ContainerHandle {
  /** The pod process knows the rest. */
  readonly record: Json = {};
  readonly #pod: ProcessPod;
  readonly #options: RemoteContainerOptions;

  /**
   * Names a container.
   *
   * @param pod The pod that it is in.
   * @param spec As it was asked for.
   * @param options See {@link RemoteContainerOptions}.
   */
  constructor(pod: ProcessPod, readonly spec: ContainerSpec, options: RemoteContainerOptions) {
    this.#pod = pod;
    this.#options = options;
  }

  /** Starts the init process; again where it failed. */
  async start(signal: AbortSignal): Promise<ProcessHandle> {
    const container = this.spec.id;
    throwIfAborted(signal, `cannot start container "${container}"`);
    return await this.#pod.startProcess((process) =>
      this.#pod.call({ call: "start", container, process }, { signal })
    );
  }

  /** Starts a process beside it. */
  async exec(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle> {
    const container = this.spec.id;
    throwIfAborted(signal, `cannot exec "${spec.id}" in container "${container}"`);
    using files = passExec(this.#options.system, spec);
    const ticket = await this.#pod.pass(files.descriptors);
    const forget = this.#options.wishes.addExec(this.spec, spec.process);
    try {
      const handle = await this.#pod.startProcess((process) =>
        this.#pod.call({ call: "exec", container, process, spec: files.spec, ticket }, { signal })
      );
      void handle.exited.then(forget);
      return handle;
    } catch (error) {
      forget();
      throw error;
    }
  }

  /** Freezes it. */
  async pause(): Promise<void> {
    await this.#pod.call({ call: "pause", container: this.spec.id });
  }

  /** Thaws it. */
  async resume(): Promise<void> {
    await this.#pod.call({ call: "resume", container: this.spec.id });
  }

  /** Changes its limits. */
  async update(resources: ResourceSpec): Promise<void> {
    await this.#pod.call({ call: "update", container: this.spec.id, resources });
  }

  /** The threads of its guests. */
  pids(): Promise<readonly number[]> {
    return this.#pod.call({ call: "pids", container: this.spec.id });
  }

  /** What it uses. */
  stats(): Promise<Stats> {
    return this.#pod.call({ call: "stats", container: this.spec.id });
  }

  /** Kills what still runs and releases everything. What ended with its process is gone already. */
  async delete(): Promise<void> {
    try {
      await this.#pod.call({ call: "delete", container: this.spec.id });
    } catch (error) {
      if (!this.#pod.over || SandboxError.from(error).code !== "Unavailable") throw error;
    }
    this.#options.onDelete();
  }
}

/** A process in a pod process: a thread of it. */
export class RemoteProcess implements ProcessHandle {
  /** Thread id. */
  pid: number;
  readonly #pod: ProcessPod;
  readonly #number: number;
  readonly #exit = Promise.withResolvers<Exit>();
  #over = false;

  /**
   * Names a process.
   *
   * @param pod The pod that it is in.
   * @param number Its number in the protocol.
   * @param pid Thread id; 0 where it is not known yet.
   */
  constructor(pod: ProcessPod, number: number, pid: number) {
    this.#pod = pod;
    this.#number = number;
    this.pid = pid;
  }

  /** Settles when its end was told. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** It has ended. Only the first time counts. */
  end(exit: Exit): void {
    this.#over = true;
    this.#exit.resolve(exit);
  }

  /** Sends a signal; nothing happens after its end. */
  async kill(signal: number): Promise<void> {
    if (!this.#over) await this.#pod.call({ call: "kill", process: this.#number, signal });
  }

  /** Gives up the hold on its standard input. */
  async closeStdin(): Promise<void> {
    if (!this.#over) await this.#pod.call({ call: "close-stdin", process: this.#number });
  }
}
