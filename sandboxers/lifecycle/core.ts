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
import { noObserver, type Observer } from "./observer.ts";
import { recordOf } from "./record.ts";
import type { Sandbox } from "./sandbox.ts";
import type { ContainerSpec } from "./spec.ts";
import type { Store } from "./store.ts";
import { type Snapshot, Writer } from "./writer.ts";

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
  /** Sandboxes of the sandboxer, whatever their state. */
  readonly sandboxes: number;
  /** Containers of one sandbox, those that are being made included. */
  readonly containersPerSandbox: number;
  /** Execs of one container that were not deleted. */
  readonly execsPerContainer: number;
}

/** What a sandboxer is made of. */
export interface SandboxerOptions {
  /** The kind of sandbox. */
  readonly driver: Driver;
  /** Where state is kept. */
  readonly store: Store;
  /** What makes and unmakes root file systems. */
  readonly mounter: Mounter;
  /** The time; the machine's unless given. */
  readonly clock?: Clock;
  /** Where notes go; nowhere unless given. */
  readonly log?: LifecycleLog;
  /** Limits that differ from the defaults. */
  readonly limits?: Partial<Limits>;
  /** Hears of what is done; nobody unless given. */
  readonly observer?: Observer;
}

const DEFAULT_LIMITS: Limits = {
  sandboxes: 10_000,
  containersPerSandbox: 256,
  execsPerContainer: 1024,
};

/** A container with the sandbox it is in. */
export interface Located {
  /** The sandbox that the container is in. */
  readonly sandbox: Sandbox;
  /** The container. */
  readonly container: Container;
}

/** The shared middle of the orchestrator. */
export class Core {
  /** The kind of sandbox. */
  readonly driver: Driver;
  /** What makes and unmakes root file systems. */
  readonly mounter: Mounter;
  /** The time. */
  readonly clock: Clock;
  /** Where notes go. */
  readonly log: LifecycleLog;
  /** The most of everything. */
  readonly limits: Limits;
  /** Hears of what is done. */
  readonly observer: Observer;
  /** Every sandbox by id. */
  readonly sandboxes = new Map<string, Sandbox>();
  /**
   * The sandbox of every container, also of those that are being made, and of those that are gone
   * and still in the store: an id is free when no record has it, or a crash would bring back two.
   */
  readonly owners = new Map<string, Sandbox>();
  /** Containers that are being made, by sandbox. */
  readonly creating = new Map<Sandbox, Map<string, ContainerSpec>>();
  /** Set when the process is about to go: nothing new is begun. */
  closed: SandboxError | undefined;
  /** Set when the process goes: nobody can wait for anything any more. */
  leaving: SandboxError | undefined;
  /** Where records are, for recovery to read; {@link save} writes. */
  readonly store: Store;
  readonly #writer: Writer;
  readonly #listeners = new Set<EventListener>();

  /**
   * Puts the parts together; nothing happens yet.
   *
   * @param options See {@link SandboxerOptions}.
   */
  constructor(options: SandboxerOptions) {
    this.driver = options.driver;
    this.mounter = options.mounter;
    this.clock = options.clock ?? Date;
    this.log = options.log ?? { warn: () => undefined };
    this.limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.observer = options.observer ?? noObserver;
    this.store = options.store;
    this.#writer = new Writer(
      options.store,
      (id) => this.#snapshot(id),
      (id, error) => this.#warn(id, error),
    );
  }

  /** How many listeners there are. */
  get listeners(): number {
    return this.#listeners.size;
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
   * Writes a sandbox's record as it will be when the write begins.
   *
   * @throws SandboxError what the store throws, `ResourceExhausted` on a full disk.
   */
  save(sandbox: Sandbox): Promise<void> {
    return this.#writer.save(sandbox.spec.id);
  }

  /**
   * Writes a record without anybody waiting for it: for what has happened already and cannot be
   * refused any more (an exit). Where it fails it is repeated when the store works again.
   */
  saveLater(sandbox: Sandbox): void {
    if (!sandbox.deleted && !sandbox.recovering) this.#writer.saveLater(sandbox.spec.id);
  }

  /**
   * Writes what has happened and cannot be refused any more before the caller is told of it, where
   * the sandbox's containers outlive this process: the next one must not know less than the caller
   * does. Where they do not, nobody waits for the disk.
   */
  async saveForNext(sandbox: Sandbox): Promise<void> {
    const { state } = sandbox;
    const handle = "handle" in state ? state.handle : undefined;
    if (handle?.outlivesSandboxer === true) await this.saveQuietly(sandbox);
    else this.saveLater(sandbox);
  }

  /** Writes what cannot be refused any more; where that fails it is repeated later. */
  async saveQuietly(sandbox: Sandbox): Promise<void> {
    if (sandbox.deleted) return;
    try {
      await this.save(sandbox);
    } catch (error) {
      this.#warn(sandbox.spec.id, error);
    }
  }

  #warn(id: string, error: unknown): void {
    this.log.warn("cannot store state", { sandbox: id, error: String(error) });
  }

  /** Repeats writes that failed, once, and resolves when none is under way. */
  written(): Promise<void> {
    return this.#writer.flush();
  }

  /** How many sandboxes are not in the store as they are in memory, as far as is known. */
  get unwritten(): number {
    return this.#writer.pending;
  }

  #snapshot(id: string): Snapshot {
    const sandbox = this.sandboxes.get(id);
    if (sandbox === undefined) return { record: undefined, stored: () => undefined };
    const creating = [...this.creating.get(sandbox)?.values() ?? []];
    const released = [...sandbox.released];
    return {
      record: sandbox.deleted ? undefined : recordOf(sandbox, creating),
      stored: () => {
        for (const containerId of released) {
          sandbox.released.delete(containerId);
          this.owners.delete(containerId);
        }
      },
    };
  }
}

/** An event without what {@link Core.emit} adds. */
export type EventOf = WithoutCommon<LifecycleEvent>;

/** Each of several kinds of event without what all of them have. */
export type WithoutCommon<E> = E extends unknown ? Omit<E, "namespace" | "sandboxId" | "at">
  : never;
