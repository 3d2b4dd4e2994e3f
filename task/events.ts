/**
 * Publishes the lifecycle's events to containerd, in order, over the ttrpc socket on which
 * containerd takes the events of shims. While containerd is away events wait in a queue; when that
 * is full the oldest go first. Nobody waits for this: an event that cannot be told harms no sandbox.
 *
 * Source: containerd api/services/ttrpc/events/v1/events.proto.
 *
 * @module
 */

import { Events } from "../proto/gen/containerd/services/events/ttrpc/v1/events_pb.ts";
import type { Envelope } from "../proto/gen/containerd/types/types_pb.ts";
import type { LifecycleLog } from "../sandboxers/lifecycle/core.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import type { LifecycleEvent } from "../sandboxers/lifecycle/events.ts";
import { envelopeOf } from "./event_messages.ts";
import { NAMESPACE_KEY } from "./service.ts";
import { TtrpcClient } from "./ttrpc/client.ts";

/** How an {@link EventPublisher} is made. */
export interface EventPublisherOptions {
  /** containerd's ttrpc socket, such as `/run/containerd/containerd.sock.ttrpc`. */
  readonly address: string;
  /** Where it says what it could not publish. */
  readonly log?: LifecycleLog;
  /** Most events that wait for containerd. */
  readonly queueLength?: number;
  /** How long containerd may take for one event, in milliseconds. */
  readonly callTimeoutMs?: number;
  /** First and longest pause between two attempts to connect, in milliseconds. */
  readonly backoffMs?: { readonly first: number; readonly longest: number };
  /** How long the events that wait may take at the end, in milliseconds. */
  readonly flushMs?: number;
}

const DEFAULTS = {
  queueLength: 4_096,
  callTimeoutMs: 5_000,
  backoffMs: { first: 100, longest: 5_000 },
  flushMs: 2_000,
} as const;

/** How often one event is tried on connections that could be made, before it is given up. */
const MAX_ATTEMPTS = 5;

/** What became of one attempt: `away` could not connect, `failed` could and was not answered. */
type Outcome = "sent" | "refused" | "failed" | "away";

/** Publishes events until it is disposed of. */
export class EventPublisher implements AsyncDisposable {
  readonly #options: Required<Omit<EventPublisherOptions, "log">>;
  readonly #log: LifecycleLog;
  readonly #queue: Envelope[] = [];
  /** Dropped from a full queue since containerd was last reached. */
  #dropped = 0;
  #away = false;
  #client: TtrpcClient | undefined;
  /** The loop that empties the queue; undefined while there is nothing to do. */
  #sending: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  readonly #stop = new AbortController();

  /**
   * Makes a publisher; it connects when there is something to publish.
   *
   * @param options Where containerd is, and limits that differ from the defaults.
   */
  constructor(options: EventPublisherOptions) {
    const { log, ...rest } = options;
    this.#options = { ...DEFAULTS, ...rest };
    this.#log = log ?? { warn: () => undefined };
  }

  /** Events that wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /** Takes an event and returns at once. Made to be given to `Sandboxer.subscribe`. */
  readonly publish = (event: LifecycleEvent): void => {
    if (this.#closing !== undefined) return;
    const envelope = envelopeOf(event);
    if (envelope === undefined) return;
    this.#queue.push(envelope);
    if (this.#queue.length > this.#options.queueLength) this.#dropOldest();
    this.#sending ??= this.#send();
  };

  /** Sends what waits, in bounded time, and disconnects. What comes later is not taken. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const timer = setTimeout(() => this.#stop.abort(), this.#options.flushMs);
    await this.#sending;
    clearTimeout(timer);
    this.#client?.close();
    const lost = this.#queue.length + this.#dropped;
    if (lost > 0) this.#log.warn("events were not published", { count: lost });
    this.#queue.length = 0;
  }

  #dropOldest(): void {
    this.#queue.shift();
    this.#dropped += 1;
    if (this.#dropped > 1) return;
    this.#log.warn("event queue is full, the oldest events are dropped", {
      queueLength: this.#options.queueLength,
    });
  }

  /** Empties the queue, one event at a time: containerd handles calls side by side. */
  async #send(): Promise<void> {
    const { first, longest } = this.#options.backoffMs;
    let pauseMs = first;
    let tried: { readonly envelope: Envelope; attempts: number } | undefined;
    while (!this.#stop.signal.aborted) {
      const envelope = this.#queue[0];
      if (envelope === undefined) {
        // At once, not in a `finally` later: the next event must find nobody sending.
        this.#sending = undefined;
        return;
      }
      const outcome = await this.#forward(envelope);
      if (tried?.envelope !== envelope) tried = { envelope, attempts: 0 };
      if (outcome === "failed") tried.attempts += 1;
      if (outcome === "sent" || outcome === "refused" || tried.attempts >= MAX_ATTEMPTS) {
        if (this.#queue[0] === envelope) this.#queue.shift();
        // A full queue dropped it while it was under way: it got there all the same.
        else if (outcome === "sent") this.#dropped -= 1;
        if (outcome === "sent") this.#reportBack();
        pauseMs = first;
      } else {
        await this.#pause(pauseMs);
        pauseMs = Math.min(pauseMs * 2, longest);
      }
    }
  }

  /** Makes one attempt to send an event. Never rejects. */
  async #forward(envelope: Envelope): Promise<Outcome> {
    const { signal } = this.#stop;
    const { callTimeoutMs } = this.#options;
    let client: TtrpcClient;
    try {
      client = await this.#connect();
    } catch (error) {
      this.#reportAway(error);
      return "away";
    }
    try {
      await client.call(Events.method.forward, { envelope }, {
        timeoutMs: callTimeoutMs,
        signal,
        metadata: { [NAMESPACE_KEY]: envelope.namespace },
      });
      return "sent";
    } catch (error) {
      const { code, message } = SandboxError.from(error);
      const { topic } = envelope;
      const lost = code === "Unavailable" || code === "DeadlineExceeded" || signal.aborted;
      this.#log.warn("cannot publish event", { topic, error: message });
      if (!lost) return "refused";
      client.close();
      return "failed";
    }
  }

  async #connect(): Promise<TtrpcClient> {
    if (this.#client?.connected === true) return this.#client;
    const { address, callTimeoutMs } = this.#options;
    const { signal } = this.#stop;
    this.#client = await TtrpcClient.connect(address, { timeoutMs: callTimeoutMs, signal });
    return this.#client;
  }

  #reportAway(error: unknown): void {
    if (this.#away || this.#stop.signal.aborted) return;
    this.#away = true;
    this.#log.warn("containerd takes no events, they wait", {
      address: this.#options.address,
      error: SandboxError.from(error).message,
    });
  }

  #reportBack(): void {
    this.#away = false;
    if (this.#dropped === 0) return;
    this.#log.warn("events were dropped while containerd was away", { count: this.#dropped });
    this.#dropped = 0;
  }

  /** Waits, or returns early when the publisher stops. */
  async #pause(pauseMs: number): Promise<void> {
    const { signal } = this.#stop;
    if (signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, pauseMs);
    const onAbort = (): void => resolve();
    signal.addEventListener("abort", onAbort, { once: true });
    await promise;
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
