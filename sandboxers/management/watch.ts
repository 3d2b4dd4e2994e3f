/**
 * Tells watchers of sandboxes as they change. What is to be told is a set of ids for each watcher, so
 * a sandbox that changes ten times before a watcher looks is told once, as it is then. Messages are
 * made once for all watchers, and nothing is done while there is none.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer } from "../lifecycle/sandboxer.ts";
import { Bell } from "./bell.ts";
import { type SandboxMessage, sandboxMessage } from "./messages.ts";
import { pagesOf } from "./pages.ts";

/** What a watcher is told. */
export interface WatchMessage {
  /** Sandboxes as they are now. */
  readonly sandboxes: SandboxMessage[];
  /** Sandboxes that are gone. */
  readonly removedIds: string[];
  /** Set in the message with the last of those that are there at first. */
  readonly complete: boolean;
}

/** How long changes are gathered before they are told, in milliseconds. */
const DELAY_MS = 100;

/** Most changes that are kept for a watcher that does not read. */
const CHANGES_MAX = 20_000;

/** Watchers of one sandboxer. */
export class SandboxWatch {
  readonly #sandboxer: Sandboxer;
  readonly #bell: Bell;
  readonly #changesMax: number;
  readonly #watchers = new Set<Set<string>>();
  /** Messages of this moment, for all watchers that ask for them. */
  readonly #messages = new Map<string, SandboxMessage>();
  #subscription: Disposable | undefined;

  /**
   * Nobody watches yet.
   *
   * @param sandboxer What is watched.
   * @param delayMs How long changes are gathered before they are told, in milliseconds.
   * @param changesMax Most changes that are kept for a watcher that does not read.
   */
  constructor(
    sandboxer: Sandboxer,
    delayMs: number = DELAY_MS,
    changesMax: number = CHANGES_MAX,
  ) {
    this.#sandboxer = sandboxer;
    this.#bell = new Bell(delayMs);
    this.#changesMax = changesMax;
  }

  /** How many watch. */
  get size(): number {
    return this.#watchers.size;
  }

  /**
   * All sandboxes now, then each one again whenever something of it has changed.
   *
   * @param signal Ends it.
   * @throws {SandboxError} `ResourceExhausted` for a watcher that reads too slowly.
   */
  async *follow(signal: AbortSignal): AsyncGenerator<WatchMessage> {
    const changed = new Set<string>();
    this.#add(changed);
    try {
      yield* this.#first();
      for (;;) {
        if (changed.size > this.#changesMax) throw tooSlow(this.#changesMax);
        const ids = [...changed];
        changed.clear();
        yield* this.#told(ids);
        if (changed.size === 0) await this.#bell.rung(signal);
      }
    } finally {
      this.#remove(changed);
    }
  }

  /** What is there now, in pages. */
  *#first(): Generator<WatchMessage> {
    const ids = this.#sandboxer.sandboxes().map(({ spec }) => spec.id);
    for (const sandboxes of pagesOf(this.#now(ids))) {
      yield { sandboxes, removedIds: [], complete: false };
    }
    yield { sandboxes: [], removedIds: [], complete: true };
  }

  /** What has become of some sandboxes. */
  *#told(ids: readonly string[]): Generator<WatchMessage> {
    const removedIds = ids.filter((id) => this.#message(id) === undefined);
    if (removedIds.length > 0) yield { sandboxes: [], removedIds, complete: false };
    for (const sandboxes of pagesOf(this.#now(ids))) {
      yield { sandboxes, removedIds: [], complete: false };
    }
  }

  /** Those that are there, each as it is when it is asked for. */
  *#now(ids: readonly string[]): Generator<SandboxMessage> {
    for (const id of ids) {
      const message = this.#message(id);
      if (message !== undefined) yield message;
    }
  }

  /** A sandbox as it is now; undefined when it is gone. */
  #message(id: string): SandboxMessage | undefined {
    const known = this.#messages.get(id);
    if (known !== undefined) return known;
    const message = messageOf(this.#sandboxer, id);
    // A sandbox that is gone has no more events that would take it out again.
    if (message !== undefined) this.#messages.set(id, message);
    return message;
  }

  #add(changed: Set<string>): void {
    this.#watchers.add(changed);
    this.#subscription ??= this.#sandboxer.subscribe(({ sandboxId }) => {
      this.#messages.delete(sandboxId);
      for (const ids of this.#watchers) {
        if (ids.size <= this.#changesMax) ids.add(sandboxId);
      }
      this.#bell.ring();
    });
  }

  #remove(changed: Set<string>): void {
    this.#watchers.delete(changed);
    if (this.#watchers.size > 0) return;
    this.#subscription?.[Symbol.dispose]();
    this.#subscription = undefined;
    this.#messages.clear();
  }
}

function messageOf(sandboxer: Sandboxer, id: string): SandboxMessage | undefined {
  try {
    return sandboxMessage(sandboxer, sandboxer.sandbox(id));
  } catch (error) {
    if (error instanceof SandboxError && error.code === "NotFound") return undefined;
    throw error;
  }
}

function tooSlow(changesMax: number): SandboxError {
  return new SandboxError(
    "ResourceExhausted",
    `cannot watch any longer: more than ${changesMax} changes were not read; watch again`,
  );
}
