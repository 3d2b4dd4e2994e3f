/**
 * What the parts of the orchestrator share: the ports it was given, the sandboxes it knows, and the
 * one way to tell the world and to write to the store.
 *
 * @module
 */

import type { Container } from "./container.ts";
import type { Driver } from "./driver.ts";
import { SandboxError } from "./errors.ts";
import type { EventListener, LifecycleEvent } from "./events.ts";
import type { Mounter } from "./mounter.ts";
import { recordOf } from "./record.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ContainerSpec } from "./spec.ts";
import type { Store } from "./store.ts";

/** Where the time comes from. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
}

/** Where notes for the operator go; see `sandboxers/log.ts` for the real one. */
export interface LifecycleLog {
  /** Something went wrong and was survived. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** The most of everything that one sandboxer takes on. */
export interface Limits {
  readonly sandboxes: number;
  readonly containersPerSandbox: number;
  readonly execsPerContainer: number;
}

/** What a sandboxer is made of. */
export interface SandboxerOptions {
  readonly driver: Driver;
  readonly store: Store;
  readonly mounter: Mounter;
  readonly clock?: Clock;
  readonly log?: LifecycleLog;
  readonly limits?: Partial<Limits>;
}

const DEFAULT_LIMITS: Limits = {
  sandboxes: 10_000,
  containersPerSandbox: 256,
  execsPerContainer: 1024,
};

/** A container with the sandbox it is in. */
export interface Located {
  readonly sandbox: Sandbox;
  readonly container: Container;
}

/** The shared middle of the orchestrator. */
export class Core {
  readonly driver: Driver;
  readonly mounter: Mounter;
  readonly clock: Clock;
  readonly log: LifecycleLog;
  readonly limits: Limits;
  /** Every sandbox by id. */
  readonly sandboxes = new Map<string, Sandbox>();
  /** The sandbox of every container, also of those that are being made. */
  readonly owners = new Map<string, Sandbox>();
  /** Containers that are being made, by sandbox. */
  readonly creating = new Map<Sandbox, Map<string, ContainerSpec>>();
  /** Set when the process is about to go: nothing new is begun. */
  closed: SandboxError | undefined;
  readonly #store: Store;
  readonly #listeners = new Set<EventListener>();
  readonly #writes = new Map<
    Sandbox,
    { running: Promise<void>; next: Promise<void> | undefined }
  >();

  /** @param options See {@link SandboxerOptions}. */
  constructor(options: SandboxerOptions) {
    this.driver = options.driver;
    this.mounter = options.mounter;
    this.clock = options.clock ?? Date;
    this.log = options.log ?? { warn: () => undefined };
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#store = options.store;
  }

  /** The store, for recovery. */
  get store(): Store {
    return this.#store;
  }

  /**
   * A sandbox by id.
   *
   * @throws SandboxError `NotFound`
   */
  sandbox(id: string): Sandbox {
    const sandbox = this.sandboxes.get(id);
    if (sandbox !== undefined) return sandbox;
    throw new SandboxError("NotFound", `sandbox "${id}" not found`);
  }

  /**
   * A container by id, with its sandbox.
   *
   * @throws SandboxError `NotFound`
   */
  container(id: string): Located {
    const sandbox = this.owners.get(id);
    const container = sandbox?.containers.get(id);
    if (sandbox !== undefined && container !== undefined) return { sandbox, container };
    throw new SandboxError("NotFound", `container "${id}" not found`);
  }

  /**
   * Refuses new work once the sandboxer is closing.
   *
   * @throws SandboxError `Unavailable`
   */
  mustBeOpen(): void {
    if (this.closed !== undefined) throw this.closed;
  }

  /** Adds a listener; disposing of the answer removes it. */
  subscribe(listener: EventListener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }

  /** Tells every listener what happened in a sandbox. */
  emit(sandbox: Sandbox, event: EventOf): void {
    const full: LifecycleEvent = {
      ...event,
      namespace: sandbox.spec.namespace,
      sandboxId: sandbox.spec.id,
      at: this.clock.now(),
    };
    for (const listener of this.#listeners) {
      try {
        listener(full);
      } catch (error) {
        this.log.warn("event listener failed", { kind: event.kind, error: String(error) });
      }
    }
  }

  /**
   * Writes a sandbox's record as it will be when the write begins. Writes of one sandbox never
   * overlap, and those that wait are one.
   *
   * @throws SandboxError what the store throws, `ResourceExhausted` on a full disk.
   */
  save(sandbox: Sandbox): Promise<void> {
    const writing = this.#writes.get(sandbox);
    if (writing === undefined) {
      const entry: { running: Promise<void>; next: Promise<void> | undefined } = {
        running: Promise.resolve(),
        next: undefined,
      };
      entry.running = this.#write(sandbox);
      this.#writes.set(sandbox, entry);
      return entry.running;
    }
    writing.next ??= writing.running.catch(() => undefined).then(() => {
      const next = this.#write(sandbox);
      this.#writes.set(sandbox, { running: next, next: undefined });
      return next;
    });
    return writing.next;
  }

  async #write(sandbox: Sandbox): Promise<void> {
    try {
      if (sandbox.deleted) {
        await this.#store.delete(sandbox.spec.id);
      } else {
        const creating = this.creating.get(sandbox)?.values() ?? [];
        await this.#store.put(recordOf(sandbox, [...creating]));
      }
    } finally {
      // Whoever waited for this write has been given `next`, which takes the place over.
      if (this.#writes.get(sandbox)?.next === undefined) this.#writes.delete(sandbox);
    }
  }

  /**
   * Writes a record without anybody waiting for it: for what has happened already and cannot be
   * refused any more (an exit). The next write brings the record up to date if this one fails.
   */
  saveLater(sandbox: Sandbox): void {
    if (sandbox.deleted) return;
    this.save(sandbox).catch((error: unknown) =>
      this.log.warn("cannot store state", { sandbox: sandbox.spec.id, error: String(error) })
    );
  }

  /** Resolves when no write is under way. */
  async written(): Promise<void> {
    while (this.#writes.size > 0) {
      const writes = [...this.#writes.values()].map((entry) => entry.next ?? entry.running);
      await Promise.allSettled(writes);
    }
  }
}

/** An event without what {@link Core.emit} adds. */
export type EventOf = DistributiveOmit<LifecycleEvent, "namespace" | "sandboxId" | "at">;

type DistributiveOmit<T, K extends PropertyKey> = T extends unknown ? Omit<T, K> : never;
