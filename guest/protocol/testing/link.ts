/**
 * Two ends of the wire in one process, for tests: bytes go through queues that a test can cut into
 * pieces, hold back, break and change, with a clock that stands still until it is told to go on.
 *
 * @module
 */

import { AgentError } from "../agent_error.ts";
import { createGuestPeer } from "../guest_peer.ts";
import { HostPeer, type HostPeerEnd } from "../host_peer.ts";
import type { AgentEvent } from "../messages.ts";
import type { GuestPeer, InboundStream, RequestHandlers } from "../peer.ts";
import type { Transport, TransportSink } from "../transport.ts";

/** Random numbers that a seed repeats (mulberry32). */
export class Chance {
  #state: number;

  /** Numbers of a seed. */
  constructor(readonly seed: number) {
    this.#state = seed >>> 0;
  }

  /** An integer from 0 to below `end`. */
  below(end: number): number {
    this.#state = this.#state + 0x6d2b79f5 >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ t >>> 15, t | 1);
    t ^= t + Math.imul(t ^ t >>> 7, t | 61);
    return ((t ^ t >>> 14) >>> 0) % end;
  }

  /** Some bytes. */
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.below(256));
  }
}

/** A clock that a test moves. */
export class TestClock {
  /** Milliseconds. */
  nowMs = 0;
  #timers: { readonly at: number; readonly run: () => void }[] = [];

  /** See `Timer`. */
  readonly timer = (run: () => void, delayMs: number): () => void => {
    const entry = { at: this.nowMs + delayMs, run };
    this.#timers.push(entry);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== entry);
    };
  };

  /** Lets time pass. */
  pass(ms: number): void {
    const end = this.nowMs + ms;
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.nowMs = Math.max(this.nowMs, due.at);
      due.run();
    }
    this.nowMs = end;
  }
}

/** A transport whose bytes stay here until they are taken. */
export class QueueTransport implements Transport {
  /** Bytes that were written and not taken. */
  queue: Uint8Array[] = [];
  /** Whether it was closed. */
  closed = false;
  /** Size of every write. */
  largestWrite = 0;
  #blocked = false;
  /** Set to the sink of the side that writes here. */
  sink: TransportSink | undefined;

  /** A transport that asks to wait above so many bytes. */
  constructor(readonly highBytes: number = 64 * 1024) {}

  /** Bytes in the queue. */
  get bytes(): number {
    return this.queue.reduce((sum, { length }) => sum + length, 0);
  }

  write(bytes: Uint8Array): boolean {
    if (this.closed) return true;
    this.largestWrite = Math.max(this.largestWrite, bytes.length);
    // A view: what is queued must not change before it is taken.
    this.queue.push(bytes);
    this.#blocked ||= this.bytes > this.highBytes;
    return !this.#blocked;
  }

  discard(): void {
    this.queue = [];
    this.#blocked = false;
  }

  close(): void {
    this.closed = true;
    this.queue = [];
  }

  /** Takes up to so many bytes out. */
  take(max: number): Uint8Array {
    const first = this.queue[0];
    if (first === undefined) return new Uint8Array(0);
    const taken = first.slice(0, max);
    if (taken.length === first.length) this.queue.shift();
    else this.queue[0] = first.subarray(taken.length);
    if (this.#blocked && this.bytes <= this.highBytes / 2) {
      this.#blocked = false;
      this.sink?.onDrain();
    }
    return taken;
  }
}

/** A host's end with what it was told. */
export class TestHost {
  /** The end. */
  readonly peer: HostPeer;
  /** Events that came. */
  readonly events: AgentEvent[] = [];
  /** Notes. */
  readonly notes: string[] = [];
  /** How often a connection was opened. */
  connections = 0;
  /** Why it is over. */
  end: HostPeerEnd | undefined;

  /** A host that begins a session. */
  constructor(clock: TestClock, chance: Chance) {
    this.peer = new HostPeer({
      random: (bytes) => chance.bytes(bytes),
      timer: clock.timer,
      now: () => clock.nowMs,
      event: (event) => this.events.push(event),
      connected: () => this.connections++,
      disconnected: () => undefined,
      over: (end) => this.end = end,
      log: (message) => this.notes.push(message),
    });
  }
}

/** A guest's end with what it was told. */
export class TestGuest {
  /** The end. */
  readonly peer: GuestPeer;
  /** Notes. */
  readonly notes: string[] = [];
  /** Whether each connection went on with a session. */
  readonly connected: boolean[] = [];

  /** A guest that waits for a host. */
  constructor(handlers: RequestHandlers = {}) {
    this.peer = createGuestPeer({
      handlers,
      connected: (resumed) => this.connected.push(resumed),
      log: (message) => this.notes.push(message),
    });
  }
}

/** The wire between a guest and whatever host there is. */
export class Link {
  /** Time. */
  readonly clock = new TestClock();
  /** The guest's port, which outlives hosts. */
  readonly fromGuest: QueueTransport;
  /** The connection of the host; undefined while none is there. */
  fromHost: QueueTransport | undefined;
  readonly #guestSink: TransportSink;
  #hostSink: TransportSink | undefined;
  /** The largest piece that is moved at a time. */
  pieceBytes = 64 * 1024;

  /** A wire with a guest at one end. */
  constructor(readonly guest: TestGuest, readonly chance: Chance) {
    this.fromGuest = new QueueTransport();
    this.#guestSink = guest.peer.attach(this.fromGuest);
    this.fromGuest.sink = this.#guestSink;
  }

  /** A host connects. */
  connect(host: TestHost, cut = this.fromHost !== undefined): void {
    const transport = new QueueTransport();
    this.fromHost = transport;
    this.#hostSink = host.peer.attach(transport, cut);
    transport.sink = this.#hostSink;
  }

  /**
   * Cuts the connection: the host's bytes under way arrive only as far as `kept` says; what the guest
   * has sent is lost, but for what follows the first `lost` bytes, which the next host will see.
   */
  cut(kept = 0, lost = Number.MAX_SAFE_INTEGER, seen = false): void {
    let left = kept;
    while (left > 0 && this.fromHost !== undefined && this.fromHost.bytes > 0) {
      const piece = this.fromHost.take(left);
      left -= piece.length;
      this.#guestSink.onBytes(piece);
    }
    let gone = lost;
    while (gone > 0 && this.fromGuest.bytes > 0) gone -= this.fromGuest.take(gone).length;
    const sink = this.#hostSink;
    this.#hostSink = undefined;
    this.fromHost = new QueueTransport();
    if (seen) {
      this.fromGuest.discard();
      this.#guestSink.onClosed("cut");
    }
    sink?.onClosed("cut");
  }

  /** Moves one piece, or tells that nothing was there. */
  async step(): Promise<boolean> {
    const max = 1 + this.chance.below(this.pieceBytes);
    let moved = false;
    if (this.fromHost !== undefined && this.fromHost.bytes > 0) {
      this.#guestSink.onBytes(this.fromHost.take(max));
      moved = true;
    }
    if (this.#hostSink !== undefined && this.fromGuest.bytes > 0) {
      this.#hostSink.onBytes(this.fromGuest.take(max));
      moved = true;
    }
    // Answers are made in promises.
    for (let i = 0; i < 4; i++) await Promise.resolve();
    return moved;
  }

  /**
   * Moves all there is, or as many bytes as are given for one direction.
   *
   * @returns How many bytes were moved in that direction.
   */
  async moveUntil(limit: { readonly host?: number; readonly guest?: number }): Promise<number> {
    const moved = { host: 0, guest: 0 };
    const counted = limit.host !== undefined ? "host" : "guest";
    const end = limit[counted] ?? Infinity;
    for (let quiet = 0; quiet < 3 && moved[counted] < end;) {
      const max = (from: "host" | "guest") =>
        Math.min(1 + this.chance.below(this.pieceBytes), (limit[from] ?? Infinity) - moved[from]);
      const fromHost = this.fromHost?.take(max("host")) ?? new Uint8Array(0);
      if (fromHost.length > 0) this.#guestSink.onBytes(fromHost);
      const fromGuest = this.fromGuest.take(max("guest"));
      if (fromGuest.length > 0) this.#hostSink?.onBytes(fromGuest);
      moved.host += fromHost.length;
      moved.guest += fromGuest.length;
      for (let i = 0; i < 4; i++) await Promise.resolve();
      if (fromHost.length + fromGuest.length > 0) quiet = 0;
      else {
        quiet++;
        this.clock.pass(30);
      }
    }
    return moved[counted];
  }

  /** Moves all there is, until nothing moves for a second of the clock. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 10;) {
      if (await this.step()) quiet = 0;
      else {
        quiet++;
        this.clock.pass(100);
      }
    }
  }

  /** Gives bytes to the host as if the guest had sent them. */
  inject(bytes: Uint8Array): void {
    this.#hostSink?.onBytes(bytes);
  }
}

/** Collects a stream, as fast as it comes. */
export class Collector {
  /** All bytes. */
  bytes: number[] = [];

  /** Begins at once. */
  constructor(readonly stream: InboundStream) {
    stream.onReadable = () => this.#read();
    this.#read();
  }

  #read(): void {
    for (let piece = this.stream.peek(); piece !== undefined; piece = this.stream.peek()) {
      this.bytes.push(...piece);
      this.stream.consume(piece.length);
    }
  }
}

/** A failure for handlers. */
export function refuse(): never {
  throw new AgentError("FailedPrecondition", "cannot do it: not now");
}
