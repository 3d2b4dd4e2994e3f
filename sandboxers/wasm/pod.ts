/**
 * A pod of wasm containers: no process of its own, only a network namespace that its guests enter
 * and the list of its containers.
 *
 * @module
 */

import type { ContainerHandle, SandboxHandle } from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type {
  ContainerSpec,
  Exit,
  Json,
  ResourceSpec,
  SandboxSpec,
  Stats,
} from "../lifecycle/spec.ts";
import type { PodCgroup } from "./cgroups/pod_cgroup.ts";
import { WasmContainer } from "./container.ts";
import type { ContainerContext } from "./guest_process.ts";
import { openNetwork, type PodNetwork } from "./network.ts";
import { PodFiles } from "./pod_files.ts";

/** How long the guests of a pod may take to end after they were killed. */
const STOP_DEADLINE_MS = 10_000;
const SIGTERM = 15;
const SIGKILL = 9;

/** A started pod. */
export class WasmPod implements SandboxHandle {
  /** A pod has no process: a number here would point at the sandboxer with all its pods. */
  readonly pid = 0;
  /** All that a pod is made of is in its spec. */
  readonly record: Json = {};
  readonly #context: ContainerContext;
  readonly #spec: SandboxSpec;
  readonly #network: PodNetwork;
  readonly #cgroup: PodCgroup;
  readonly #files: PodFiles | undefined;
  readonly #containers = new Set<WasmContainer>();
  readonly #exit = Promise.withResolvers<Exit>();
  /** CPU time of containers that were deleted, in nanoseconds. */
  #pastCpuNs = 0;
  #stopped = false;

  /**
   * Opens the pod's network and cgroups.
   *
   * @param context Engine and system.
   * @param spec The pod.
   * @throws {SandboxError} `InvalidArgument` when its network namespace is not there, or for limits
   *   that make no sense; `FailedPrecondition` for limits that cannot be kept.
   */
  constructor(context: ContainerContext, spec: SandboxSpec) {
    this.#context = context;
    this.#spec = spec;
    using release = new DisposableStack();
    this.#network = release.use(openNetwork(context.system, spec.network));
    const { system, trees, podDirectory } = context;
    if (trees !== undefined && podDirectory !== undefined) {
      this.#files = release.use(new PodFiles(system, podDirectory, spec));
    }
    this.#cgroup = context.cgroups.openPod(spec);
    release.move();
  }

  /** Settles when the pod was stopped. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** Makes a container ready to start. */
  async createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    this.#assertRunning(spec.id);
    const container: WasmContainer = await WasmContainer.create(
      this.#context,
      spec,
      { steps: this.#network.steps, cgroup: this.#cgroup, files: this.#files },
      signal,
      () => this.#forget(container),
    );
    this.#containers.add(container);
    if (this.#stopped) await container.delete();
    this.#assertRunning(spec.id);
    return container;
  }

  /** The sums of its containers; CPU time of those too that were deleted. */
  stats(): Promise<Stats> {
    const all = [...this.#containers].map((container) => container.currentStats());
    const sum = (value: (stats: Stats) => number) => all.reduce((n, stats) => n + value(stats), 0);
    return Promise.resolve({
      at: Date.now(),
      cpuNs: this.#pastCpuNs + sum((stats) => stats.cpuNs),
      memoryBytes: sum((stats) => stats.memoryBytes),
      memoryPages: sum((stats) => stats.memoryPages ?? 0),
      pids: sum((stats) => stats.pids),
    });
  }

  /**
   * Changes its limits, for what runs in it too. Memory is limited for each container, not for the
   * pod.
   */
  async update(resources: ResourceSpec): Promise<void> {
    await this.#cgroup.update(resources);
  }

  /** Ends all guests and releases network and cgroups. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    // Guests cannot handle signals, so SIGTERM ends them at once; it only shows in their status.
    const signal = graceMs > 0 ? SIGTERM : SIGKILL;
    const containers = [...this.#containers];
    await Promise.all(containers.map((container) => container.killAll(signal)));
    await Promise.all(containers.map((container) => container.waitEnd(STOP_DEADLINE_MS)));
    await Promise.all(containers.map((container) => container.delete()));
    await this.#cgroup.remove();
    this.#files?.[Symbol.dispose]();
    this.#network[Symbol.dispose]();
    this.#exit.resolve({ status: 0, at: Date.now(), reason: "exited" });
  }

  #forget(container: WasmContainer): void {
    if (this.#containers.delete(container)) this.#pastCpuNs += container.currentStats().cpuNs;
  }

  #assertRunning(containerId: string): void {
    if (!this.#stopped) return;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot create container "${containerId}": sandbox "${this.#spec.id}" is stopped`,
    );
  }
}
