/**
 * A container: a root file system, the guest that is its init process, and any number of guests
 * beside it (execs).
 *
 * @module
 */

import type { ContainerHandle, ProcessHandle } from "../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { OperationName } from "../lifecycle/observer.ts";
import type {
  ContainerSpec,
  ExecSpec,
  Json,
  ProcessSpec,
  ResourceSpec,
  Stats,
} from "../lifecycle/spec.ts";
import { checkForeignAnnotations } from "./annotations.ts";
import type { ContainerCgroup } from "./cgroups/container_cgroup.ts";
import type { PodCgroup } from "./cgroups/pod_cgroup.ts";
import { guestSteps } from "./confinement.ts";
import { type ContainerFiles, openFiles } from "./files.ts";
import {
  type ContainerContext,
  GuestProcess,
  type GuestRole,
  validateProcess,
} from "./guest_process.ts";
import type { ThreadStep } from "./native/thread_spec.ts";
import type { PodFiles } from "./pod_files.ts";
import type { WasmProcess } from "./process.ts";

/** How long a killed guest may take to end: only one that waits for a broken disk takes long. */
const KILL_DEADLINE_MS = 10_000;
const SIGKILL = 9;
/** A page of linear memory in bytes. */
const PAGE_BYTES = 65_536;
/** Most pages of a linear memory with 32-bit addresses. */
const PAGES_MAX = 65_536;

/** The pod that a container is made in. */
export interface ContainerPlace {
  /** What its guests' threads do to enter the pod, before they run the guest. */
  readonly steps: readonly ThreadStep[];
  /** The pod's cgroups. */
  readonly cgroup: PodCgroup;
  /** The files that its containers mount; undefined for none. */
  readonly files: PodFiles | undefined;
}

/** What a container is made of. */
interface ContainerParts {
  readonly files: ContainerFiles;
  readonly init: GuestProcess;
  /** What its guests' threads may ask of the kernel, beside what all threads are denied. */
  readonly filter: Uint8Array<ArrayBuffer> | undefined;
  /** Owns files and init process. */
  readonly release: DisposableStack;
}

/** A container that was created. */
export class WasmContainer implements ContainerHandle {
  /** Nothing outlives the process. */
  readonly record: Json = {};
  readonly #context: ContainerContext;
  readonly #spec: ContainerSpec;
  readonly #steps: readonly ThreadStep[];
  readonly #parts: ContainerParts;
  readonly #onDelete: () => void;
  readonly #cgroup: ContainerCgroup;
  /** Execs that have not ended. */
  readonly #execs = new Set<GuestProcess>();
  /** CPU time of execs that have ended, in nanoseconds. */
  #pastCpuNs = 0;

  private constructor(
    context: ContainerContext,
    spec: ContainerSpec,
    pod: ContainerPlace,
    parts: ContainerParts,
    onDelete: () => void,
  ) {
    this.#context = context;
    this.#spec = spec;
    this.#steps = pod.steps;
    this.#parts = parts;
    this.#onDelete = onDelete;
    this.#cgroup = pod.cgroup.openContainer(spec.id, spec.resources, () => this.#threads());
  }

  /**
   * Makes a container ready to start: its module is loaded, its streams are open.
   *
   * @param context Engine and system.
   * @param spec The container; its root file system is in place.
   * @param pod What it enters of its pod.
   * @param signal Aborted when the caller gave up.
   * @param onDelete Called when it is deleted.
   * @throws {SandboxError} When something cannot be had; then nothing is left of it.
   */
  static async create(
    context: ContainerContext,
    spec: ContainerSpec,
    pod: ContainerPlace,
    signal: AbortSignal,
    onDelete: () => void,
  ): Promise<WasmContainer> {
    throwIfAborted(signal, `cannot create container "${spec.id}"`);
    using release = new DisposableStack();
    const filter = spec.seccomp && await context.filters.compile(spec.seccomp);
    const files = release.use(openFiles(context, spec, pod.files?.mountsFor(spec)));
    const init = release.use(
      await GuestProcess.create(context, { spec, files }, initRole(spec), signal),
    );
    const parts = { files, init, filter, release: new DisposableStack() };
    const container = new WasmContainer(context, spec, pod, parts, onDelete);
    parts.release.use(release.move());
    return container;
  }

  /** Starts the init process; again where it failed. */
  async start(signal: AbortSignal): Promise<ProcessHandle> {
    throwIfAborted(signal, `cannot start container "${this.#spec.id}"`);
    return await this.#start(this.#parts.init, this.#spec.process, "container_start");
  }

  /** Starts a guest beside the init process, from the same root file system. */
  async exec(spec: ExecSpec, signal: AbortSignal): Promise<ProcessHandle> {
    const { process, stdio } = spec;
    const operation = "exec_start";
    const label = `exec "${spec.id}" of container "${this.#spec.id}"`;
    const place = { spec: this.#spec, files: this.#parts.files };
    const guest = await GuestProcess.create(
      this.#context,
      place,
      { label, operation, process, stdio },
      signal,
    );
    this.#execs.add(guest);
    try {
      const handle = await this.#start(guest, process, operation);
      handle.exited.then(() => this.#forget(guest));
      return handle;
    } catch (error) {
      this.#forget(guest);
      throw error;
    }
  }

  /** The threads of the guests that run. */
  pids(): Promise<readonly number[]> {
    return Promise.resolve(this.#threads());
  }

  /** Freezes the threads of its guests. */
  async pause(): Promise<void> {
    await this.#cgroup.pause();
  }

  /** Thaws them. */
  // deno-lint-ignore require-await -- what goes wrong is to reject, not to throw
  async resume(): Promise<void> {
    this.#cgroup.resume();
  }

  /**
   * Changes its limits, for what runs in it too; but for that of memory, which is part of a guest
   * from its making.
   *
   * @param resources All limits; without one of memory that stays as it is.
   * @throws {SandboxError} `FailedPrecondition` for another memory limit.
   */
  async update(resources: ResourceSpec): Promise<void> {
    mustKeepMemory(this.#spec, resources.memoryBytes);
    await this.#cgroup.update(resources);
  }

  /** See {@link WasmContainer.currentStats}. */
  stats(): Promise<Stats> {
    return Promise.resolve(this.currentStats());
  }

  /**
   * Sums of all its guests. CPU: the time of their threads, kept after their end. Memory: their
   * linear memory as they have grown it, whether touched or not, plus the engine's own share.
   */
  currentStats(): Stats {
    const { memoryBytes } = this.#spec.resources;
    const guests = this.#guests();
    const sum = (value: (guest: GuestProcess) => number) =>
      guests.reduce((total, guest) => total + value(guest), 0);
    const linearBytes = sum((guest) => guest.memory().linearBytes);
    return {
      at: Date.now(),
      cpuNs: this.#pastCpuNs + sum((guest) => guest.cpuNs()),
      memoryBytes: linearBytes + sum((guest) => guest.memory().engineBytes),
      memoryPages: linearBytes / PAGE_BYTES,
      ...(memoryBytes === undefined ? {} : { memoryLimitBytes: memoryBytes }),
      pids: sum((guest) => guest.running ? 1 : 0),
    };
  }

  /** Sends a signal to all its guests that run. */
  async killAll(signal: number): Promise<void> {
    await Promise.all(this.#guests().map((guest) => guest.kill(signal)));
  }

  /**
   * Waits until no guest of it runs.
   *
   * @throws {SandboxError} `DeadlineExceeded` when one still does.
   */
  async waitEnd(timeoutMs: number): Promise<void> {
    await Promise.all(this.#guests().map((guest) => guest.waitEnd(timeoutMs)));
  }

  /** Kills the guests that run, and releases everything. */
  async delete(): Promise<void> {
    await this.killAll(SIGKILL);
    await this.waitEnd(KILL_DEADLINE_MS);
    await this.#cgroup.remove();
    for (const exec of this.#execs) exec[Symbol.dispose]();
    this.#parts.release.dispose();
    this.#onDelete();
  }

  /** Its init process and the execs that have not ended. */
  #guests(): GuestProcess[] {
    return [this.#parts.init, ...this.#execs];
  }

  #threads(): readonly number[] {
    return this.#guests().flatMap(({ process, running }) =>
      process !== undefined && running ? [process.pid] : []
    );
  }

  async #start(
    guest: GuestProcess,
    process: ProcessSpec,
    operation: OperationName,
  ): Promise<WasmProcess> {
    const { observer } = this.#context;
    const begin = performance.now();
    const confinement = guestSteps(this.#context, this.#parts.files.root, process.user);
    using entry = this.#cgroup.enter();
    const steps = [...entry.steps, ...this.#steps, ...confinement];
    const { filter } = this.#parts;
    const options = {
      name: threadName(this.#spec),
      steps,
      ...(filter === undefined ? {} : { filter }),
    };
    const entered = performance.now();
    observer.phase(operation, "confine", begin, entered);
    const started = await guest.start(options, (tid) => this.#cgroup.letGo(tid));
    observer.phase(operation, "thread", entered);
    await entry.entered(started.pid);
    return started;
  }

  /** Lets go of an exec that does not run any more. */
  #forget(guest: GuestProcess): void {
    this.#execs.delete(guest);
    this.#pastCpuNs += guest.cpuNs();
    guest[Symbol.dispose]();
  }
}

/**
 * Refuses what a wasm container can never be.
 *
 * @throws {SandboxError} `InvalidArgument`.
 */
export function validateContainer(spec: ContainerSpec): void {
  checkForeignAnnotations(spec.annotations, `cannot create container "${spec.id}"`);
  validateProcess(initRole(spec));
}

/** The bound of linear memory is set when a guest is made; the engine cannot move it later. */
function mustKeepMemory({ id, resources }: ContainerSpec, memoryBytes: number | undefined): void {
  if (memoryBytes === undefined) return;
  const now = resources.memoryBytes;
  if (pagesOf(memoryBytes) === pagesOf(now)) return;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot change the memory limit of container "${id}" from ${now ?? "none"} to ${memoryBytes} ` +
      "bytes: the linear memory of a WebAssembly guest is bounded when it is made: " +
      "create the container again",
  );
}

/** What a limit lets a guest have. */
function pagesOf(memoryBytes: number | undefined): number {
  return Math.min(Math.floor((memoryBytes ?? Infinity) / PAGE_BYTES), PAGES_MAX);
}

function initRole(spec: ContainerSpec): GuestRole {
  const { id, process, stdio } = spec;
  return { label: `container "${id}"`, operation: "container_create", process, stdio };
}

/** What `ps -L` and `top -H` show of a guest: the start of its container's id. */
function threadName(spec: ContainerSpec): string {
  return `w-${spec.id}`.slice(0, 15);
}
