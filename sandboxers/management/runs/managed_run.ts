/**
 * A sandbox that was made without containerd, from its start to its end: when all its containers have
 * ended it is stopped, so that it costs nothing but its log, or removed where that was asked for.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Sandboxer } from "../../lifecycle/sandboxer.ts";
import { sleep } from "../../lifecycle/signals.ts";
import type { Json } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import { isLayerFull } from "../../memory_layer.ts";
import { isRemoved, startsOnAttach } from "./marks.ts";
import type { RunContainer } from "./run_container.ts";

/** How long clients may take to read the last output before it is removed, in milliseconds. */
const READ_MS = 10_000;
/** How often is looked whether they have. */
const READ_LOOK_MS = 20;
/** Pauses before another try to remove or stop one, in milliseconds. */
const RETRIES_MS: readonly number[] = [1_000, 5_000, 30_000];
/** How long one that is started by an Attach may wait for it, in milliseconds. */
export const UNSTARTED_MS: number = 600_000;

/** What a {@link ManagedRun} works with. */
export interface ManagedRunOptions {
  /** Where its state is. */
  readonly sandboxer: Sandboxer;
  /** Its sandbox. */
  readonly sandboxId: string;
  /** Where notes go. */
  readonly log: Log;
}

/** See the module. */
export class ManagedRun implements Disposable {
  readonly #options: ManagedRunOptions;
  readonly #over = new AbortController();
  readonly #watching = new Set<string>();
  #unstarted: ReturnType<typeof setTimeout> | undefined;
  #filled = false;
  /** Its containers by id. */
  readonly containers = new Map<string, RunContainer>();

  /** Stands for a sandbox. */
  constructor(options: ManagedRunOptions) {
    this.#options = options;
  }

  /** The sandbox. */
  get sandboxId(): string {
    return this.#options.sandboxId;
  }

  /**
   * A container of it.
   *
   * @throws {SandboxError} `NotFound`
   */
  container(id: string): RunContainer {
    const container = this.containers.get(id);
    if (container !== undefined) return container;
    throw new SandboxError("NotFound", `container "${id}" has no streams here`);
  }

  /** Follows it to its end; once, when all its containers are known. */
  watch(): void {
    const { sandboxer, sandboxId } = this.#options;
    const { spec, createdAt } = sandboxer.sandbox(sandboxId);
    for (const container of this.containers.values()) void this.#watch(container);
    if (!startsOnAttach(spec) || !this.#hasUnstarted()) return;
    const leftMs = Math.max(0, createdAt + UNSTARTED_MS - Date.now());
    this.#unstarted = setTimeout(() => void this.#expire(), leftMs);
  }

  #hasUnstarted(): boolean {
    const { sandboxer } = this.#options;
    return [...this.containers.keys()].some((id) => sandboxer.container(id).state === "created");
  }

  async #expire(): Promise<void> {
    if (!this.#hasUnstarted()) return;
    const { log, sandboxId } = this.#options;
    log.warn("removing a sandbox that nobody attached to", { sandbox: sandboxId });
    await this.#insist("remove", (sandboxer) => sandboxer.deleteSandbox(sandboxId));
  }

  async #watch(container: RunContainer): Promise<void> {
    this.#watching.add(container.id);
    try {
      await container.ended();
    } catch {
      // This process is about to go, or it was deleted.
      return;
    }
    this.#watching.delete(container.id);
    if (this.#watching.size === 0 && !this.#over.signal.aborted) await this.#end();
  }

  /** All its containers have ended. */
  async #end(): Promise<void> {
    const { sandboxer, sandboxId } = this.#options;
    clearTimeout(this.#unstarted);
    if (!sandboxer.sandboxes().some(({ spec }) => spec.id === sandboxId)) return;
    await this.#tellFullLayers();
    if (isRemoved(sandboxer.sandbox(sandboxId).spec)) {
      await this.#allRead();
      await this.#insist("remove", () => sandboxer.deleteSandbox(sandboxId));
    } else {
      await this.#insist("stop", () => sandboxer.stopSandbox(sandboxId, 0));
    }
  }

  /** Programs only say that there is no space left; whose that was is told here. */
  async #tellFullLayers(): Promise<void> {
    const { sandboxer, sandboxId, log } = this.#options;
    for (const id of this.containers.keys()) {
      const { rootfs } = sandboxer.container(id).spec;
      if (rootfs.kind !== "mounts" || rootfs.mounts[0]?.type !== "tmpfs") continue;
      if (!await isLayerFull(rootfs.target)) continue;
      this.#filled = true;
      const { options } = rootfs.mounts[0];
      log.warn(
        "a container has written all that it may over its image, and what came after that failed: " +
          "give it a directory of the host to write to, or start the sandboxer with a greater " +
          "--layer-max",
        { sandbox: sandboxId, container: id, bound: options.find((it) => it.startsWith("size=")) },
      );
    }
  }

  /** Waits until those who read its output have read all, for a bounded time. */
  async #allRead(): Promise<void> {
    const until = performance.now() + READ_MS;
    const { signal } = this.#over;
    for (const { log } of this.containers.values()) {
      while (log.readers > 0 && performance.now() < until && !signal.aborted) {
        await sleep(READ_LOOK_MS, signal);
      }
    }
  }

  /** Does something that may fail for a while. */
  async #insist(what: string, work: (sandboxer: Sandboxer) => Promise<void>): Promise<void> {
    const { sandboxer, sandboxId, log } = this.#options;
    for (let i = 0; !this.#over.signal.aborted; i++) {
      try {
        return await work(sandboxer);
      } catch (thrown) {
        const error = SandboxError.from(thrown);
        if (error.code === "NotFound") return;
        log.warn(`cannot ${what} a sandbox that has ended`, { sandbox: sandboxId, error });
        const pauseMs = RETRIES_MS[i];
        if (pauseMs === undefined) return;
        await sleep(pauseMs, this.#over.signal);
      }
    }
  }

  /** What is known of it, for people. */
  get detail(): Json {
    const { sandboxer, sandboxId } = this.#options;
    const { spec } = sandboxer.sandbox(sandboxId);
    return {
      remove: isRemoved(spec),
      startOnAttach: startsOnAttach(spec),
      ...(this.#filled ? { filledLayer: true } : {}),
      logs: [...this.containers.values()].map(({ id, log }) => ({
        container: id,
        bytes: log.bytes,
        lostBytes: log.lostBytes,
        attached: log.attached,
      })),
    };
  }

  /** Closes logs and FIFOs; what is kept stays. */
  [Symbol.dispose](): void {
    this.#over.abort();
    clearTimeout(this.#unstarted);
    for (const container of this.containers.values()) container[Symbol.dispose]();
  }
}
