/**
 * Keeps the model in step with the sandboxers: one connection to each, with its pods, usage and
 * events as they come, and a new one whenever it is lost.
 *
 * @module
 */

import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { findSandboxers } from "../../sandboxers/client/find.ts";
import { ManagementClient } from "../../sandboxers/client/management_client.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { TopModel } from "./model.ts";
import { LATENCY_WINDOW_MS } from "./starts.ts";

/** How long to wait before a lost sandboxer is tried again, in milliseconds. */
const RETRY_MS = 1_000;
/** How often new sandboxers are looked for, in milliseconds. */
const SEARCH_MS = 2_000;
/** How long a sandboxer may take to say who it is, in milliseconds. */
const INFO_MS = 5_000;

/** What a {@link Source} needs. */
export interface SourceOptions {
  /** What is kept in step. */
  readonly model: TopModel;
  /** Sockets of sandboxers; those that are found where it is empty. */
  readonly addresses: readonly string[];
  /** How often usage is asked for, in milliseconds. */
  readonly intervalMs: number;
}

/** The connections to all sandboxers. Closes them when disposed of. */
export class Source implements AsyncDisposable {
  readonly #options: SourceOptions;
  readonly #end = new AbortController();
  readonly #clients = new Map<string, ManagementClient>();
  readonly #loops: Promise<void>[] = [];
  #problems: readonly string[] = [];
  #hasSearched = false;

  /** Connects; nothing that goes wrong ends it. */
  constructor(options: SourceOptions) {
    this.#options = options;
    for (const address of options.addresses) this.#follow(address);
    if (options.addresses.length === 0) this.#loops.push(this.#search());
  }

  /** Why sandboxers that may be there cannot be reached. */
  get problems(): readonly string[] {
    return this.#problems;
  }

  /** Whether sandboxers were looked for at least once. */
  get hasSearched(): boolean {
    return this.#hasSearched;
  }

  /** The connection to a sandboxer. */
  client(address: string): ManagementClient {
    const client = this.#clients.get(address);
    if (client !== undefined) return client;
    throw new SandboxError("Unavailable", `cannot reach the sandboxer at "${address}"`);
  }

  /** Closes all connections and waits until nothing changes the model any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end.abort();
    for (const client of this.#clients.values()) client.close();
    await Promise.all(this.#loops);
  }

  /** Looks for sandboxers again and again. */
  async #search(): Promise<void> {
    while (!this.#end.signal.aborted) {
      const { addresses, problems } = await findSandboxers();
      this.#problems = problems.map(({ message }) => message);
      for (const address of addresses) {
        if (!this.#clients.has(address)) this.#follow(address);
      }
      this.#hasSearched = true;
      await pause(SEARCH_MS, this.#end.signal);
    }
  }

  #follow(address: string): void {
    this.#options.model.add(address, Date.now());
    const client = new ManagementClient(address);
    this.#clients.set(address, client);
    this.#loops.push(this.#keep(client));
  }

  /** Stays connected to one sandboxer. */
  async #keep(client: ManagementClient): Promise<void> {
    const { model } = this.#options;
    const { signal } = this.#end;
    while (!signal.aborted) {
      try {
        await this.#connected(client);
      } catch (error) {
        if (signal.aborted) return;
        model.lost(client.address, SandboxError.from(error).message, Date.now());
      }
      await pause(RETRY_MS, signal);
    }
  }

  /** One connection, until it breaks. */
  async #connected(client: ManagementClient): Promise<void> {
    await this.#ask(client);
    const broken = new AbortController();
    const signal = AbortSignal.any([this.#end.signal, broken.signal]);
    const streams = [
      this.#watch(client, signal),
      this.#measure(client, signal),
      this.#listen(client, signal),
      this.#askAgain(client, signal),
    ];
    try {
      // None of them ends while the sandboxer is there.
      await Promise.race(streams);
      throw new SandboxError("Unavailable", "it has closed the connection");
    } finally {
      broken.abort();
      await Promise.allSettled(streams);
    }
  }

  async #ask(client: ManagementClient): Promise<void> {
    const begin = performance.now();
    const info = await client.info({ timeoutMs: INFO_MS, signal: this.#end.signal });
    this.#options.model.answered(client.address, info, performance.now() - begin, Date.now());
  }

  async #askAgain(client: ManagementClient, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await pause(this.#options.intervalMs, signal);
      if (!signal.aborted) await this.#ask(client);
    }
  }

  async #watch(client: ManagementClient, signal: AbortSignal): Promise<void> {
    for await (const message of client.watch({ signal })) {
      this.#options.model.watched(client.address, message, Date.now());
    }
  }

  async #measure(client: ManagementClient, signal: AbortSignal): Promise<void> {
    const interval = durationFromMs(this.#options.intervalMs);
    for await (const message of client.stats({ interval }, { signal })) {
      this.#options.model.measured(client.address, message, Date.now());
    }
  }

  /** Hears events: at first those of the last minutes, later those since the last one. */
  async #listen(client: ManagementClient, signal: AbortSignal): Promise<void> {
    const { model } = this.#options;
    const last = model.lastEventMs(client.address);
    const since = timestampFromMs(last === undefined ? Date.now() - LATENCY_WINDOW_MS : last + 1);
    for await (const event of client.events({ since }, { signal })) {
      model.happened(client.address, event, Date.now());
    }
  }
}

/** Waits for some time, or until the signal fires. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = (): void => resolve();
  const timer = setTimeout(end, ms);
  signal.addEventListener("abort", end, { once: true });
  await promise;
  clearTimeout(timer);
  signal.removeEventListener("abort", end);
}
