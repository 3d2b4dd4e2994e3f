/**
 * A pod of wasm containers: no process of its own, only a network namespace that its guests enter
 * and the list of its containers.
 *
 * @module
 */

import type { ContainerHandle, SandboxHandle } from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ContainerSpec, Exit, Json, SandboxSpec, Stats } from "../lifecycle/spec.ts";
import { type ContainerContext, WasmContainer } from "./container.ts";
import { openNetwork, type PodNetwork } from "./network.ts";

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
  readonly #containers = new Set<WasmContainer>();
  readonly #exit = Promise.withResolvers<Exit>();
  #stopped = false;

  /**
   * Opens the pod's network.
   *
   * @param context Engine and system.
   * @param spec The pod.
   * @throws {SandboxError} `InvalidArgument` when its network namespace is not there.
   */
  constructor(context: ContainerContext, spec: SandboxSpec) {
    this.#context = context;
    this.#spec = spec;
    this.#network = openNetwork(context.system, spec.network);
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
      this.#network.steps,
      signal,
      () => this.#containers.delete(container),
    );
    this.#containers.add(container);
    if (this.#stopped) await container.delete();
    this.#assertRunning(spec.id);
    return container;
  }

  /** The sums of its containers. */
  stats(): Promise<Stats> {
    const all = [...this.#containers].map((container) => container.currentStats());
    const sum = (value: (stats: Stats) => number) => all.reduce((n, stats) => n + value(stats), 0);
    return Promise.resolve({
      at: Date.now(),
      cpuNs: sum((stats) => stats.cpuNs),
      memoryBytes: sum((stats) => stats.memoryBytes),
      pids: sum((stats) => stats.pids),
    });
  }

  /** Ends all guests and releases the network. */
  async stop(graceMs: number): Promise<void> {
    this.#stopped = true;
    // Guests cannot handle signals, so SIGTERM ends them at once; it only shows in their status.
    const signal = graceMs > 0 ? SIGTERM : SIGKILL;
    const containers = [...this.#containers];
    await Promise.all(containers.map((container) => container.process?.kill(signal)));
    await Promise.all(containers.map((container) => container.waitEnd(STOP_DEADLINE_MS)));
    await Promise.all(containers.map((container) => container.delete()));
    this.#network[Symbol.dispose]();
    this.#exit.resolve({ status: 0, at: Date.now(), reason: "exited" });
  }

  #assertRunning(containerId: string): void {
    if (!this.#stopped) return;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot create container "${containerId}": sandbox "${this.#spec.id}" is stopped`,
    );
  }
}
