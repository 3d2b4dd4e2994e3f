/**
 * The host's end of the wire. What the guest says is not trusted: every frame is checked, every
 * amount bounded, and a breach of the protocol ends the talk for good.
 *
 * @module
 */

import {
  FLAG,
  FRAME,
  type FrameHead,
  makeFrame,
  type Opening,
  openingFrame,
  readOpening,
  sameNumber,
  WIDE_DATA_BYTES_MAX,
} from "./frames.ts";
import { FrameReader } from "./frame_reader.ts";
import type { InboundEnd } from "./inbound_stream.ts";
import {
  ACKNOWLEDGE_DELAY_MS,
  EVENTS_MAX,
  EVENTS_PER_SECOND,
  FRAME_BYTES_MAX,
  GUEST_MESSAGE_BYTES_MAX,
  HOST_CONTROL_BYTES_MAX,
  HOST_MESSAGE_BYTES_MAX,
  HOST_RETAINED_BYTES_MAX,
  NUISANCE_FRAMES_MAX,
  NUISANCE_FRAMES_PER_SECOND,
  OPEN_RETRY_MAX_MS,
  OPEN_RETRY_MS,
  REQUESTS_MAX,
  SCAN_BYTES_MAX,
  WIDE_WINDOW_BYTES,
} from "./limits.ts";
import { type AgentEvent, PROTOCOL_VERSION, type RequestName } from "./messages.ts";
import type { AgentFailure, Requests } from "./messages.ts";
import { checkEvent, checkFailure, checkResult } from "./checks.ts";
import type { InboundStream, OutboundStream, Timer } from "./peer.ts";
import { PeerCore } from "./peer_core.ts";
import { RateLimit } from "./rate_limit.ts";
import type { Transport, TransportSink } from "./transport.ts";
import { decodeUtf8, encodeUtf8 } from "./utf8.ts";
import { Violation } from "./violation.ts";

/** How a request ended. */
export type RequestOutcome<K extends RequestName> =
  | { readonly kind: "result"; readonly result: Requests[K]["result"] }
  | { readonly kind: "failure"; readonly failure: AgentFailure };

/** Why the talk with an agent is over. */
export type HostPeerEnd =
  /** The guest broke the protocol. */
  | { readonly kind: "violation"; readonly message: string }
  /** The agent speaks another version of the messages. */
  | { readonly kind: "version"; readonly version: number }
  /** The agent has forgotten what was said before, or does not take what it is sent. */
  | { readonly kind: "lost"; readonly message: string };

/** What the host's end needs. */
export interface HostPeerOptions {
  /** Random bytes, the given number of them. */
  random(bytes: number): Uint8Array;
  /** Calls later. */
  readonly timer: Timer;
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** An event, checked. */
  event(event: AgentEvent): void;
  /** A connection is open and usable. */
  connected(): void;
  /** A connection is over; give the next one to {@link HostPeer.attach}. */
  disconnected(reason: string): void;
  /** All is over, for good; called once. The transport has been closed. */
  over(end: HostPeerEnd): void;
  /** Takes a note for people. */
  log(message: string): void;
}

interface PendingRequest {
  readonly op: RequestName;
  settle(outcome: RequestOutcome<RequestName>): void;
}

const NOTHING = new Uint8Array(0);
const PADDING = new Uint8Array(FRAME_BYTES_MAX);

/** See the module. */
export class HostPeer {
  readonly #options: HostPeerOptions;
  readonly #core: PeerCore;
  readonly #session: Uint8Array;
  readonly #pending = new Map<number, PendingRequest>();
  readonly #nuisances: RateLimit;
  readonly #events: RateLimit;
  /** Streams whose consumption was not told yet. */
  readonly #dirty = new Set<InboundEnd>();
  #cancelDirty: (() => void) | undefined;
  #transport: Transport | undefined;
  #reader: FrameReader | undefined;
  #opening: Opening | undefined;
  #cancelOpening: (() => void) | undefined;
  #lastRequest = 0;
  #pings = new Map<number, () => void>();
  #lastPing = 0;
  #wasOpen = false;
  #over = false;

  /**
   * An end without a connection, which begins a session.
   *
   * @param options Clock, chance, and who is told.
   */
  constructor(options: HostPeerOptions) {
    this.#options = options;
    this.#session = options.random(8);
    const now = options.now();
    this.#nuisances = new RateLimit(NUISANCE_FRAMES_MAX, NUISANCE_FRAMES_PER_SECOND, now);
    this.#events = new RateLimit(EVENTS_MAX, EVENTS_PER_SECOND, now);
    this.#core = new PeerCore({
      receiveBytesMax: GUEST_MESSAGE_BYTES_MAX,
      controlBytesMax: HOST_CONTROL_BYTES_MAX,
      retainedBytesMax: HOST_RETAINED_BYTES_MAX,
      sendsWide: false,
      message: (type, flags, id, payload) => this.#message(type, flags, id, payload),
      other: (head) => this.#other(head),
      missing: () => false,
      overflow: () => this.#end({ kind: "lost", message: "it does not take what it is sent" }),
      soon: (stream) => this.#acknowledgeSoon(stream),
    });
  }

  /** Whether a connection is open and usable. */
  get connected(): boolean {
    return this.#core.open;
  }

  /**
   * Begins a connection.
   *
   * @param transport Carries it.
   * @param cut Whether the guest may sit in the middle of a frame of an earlier connection. Where it
   *   does and this is false, opening takes `OPEN_RETRY_MS` longer.
   */
  attach(transport: Transport, cut: boolean): TransportSink {
    this.#drop();
    this.#transport = transport;
    const reader = new FrameReader({
      onFrame: (head, payload) => this.#frame(head, payload),
      begins: (head, payload) => this.#begins(head, payload),
      onLost: () => this.#end({ kind: "violation", message: "bytes came that are no frame" }),
    }, WIDE_DATA_BYTES_MAX);
    this.#reader = reader;
    this.#opening = {
      nonce: this.#options.random(8),
      session: this.#session,
      protocol: PROTOCOL_VERSION,
      expected: this.#core.control.expected,
    };
    this.#sayOpen(cut, OPEN_RETRY_MS);
    const current = () => this.#reader === reader && !this.#over;
    return {
      onBytes: (bytes) => {
        if (current()) this.#push(reader, bytes);
      },
      onDrain: () => {
        if (current()) this.#core.drained();
      },
      onClosed: (reason) => {
        if (!current()) return;
        this.#drop();
        this.#options.disconnected(reason);
      },
    };
  }

  #push(reader: FrameReader, bytes: Uint8Array): void {
    reader.push(bytes);
    if (!this.#core.open && reader.skipped > SCAN_BYTES_MAX) {
      const message = `${reader.skipped} bytes came in the place of an answer to the opening`;
      this.#end({ kind: "violation", message });
    }
  }

  /** Says that a host is there, until that is answered. */
  #sayOpen(padded: boolean, pauseMs: number): void {
    if (this.#opening === undefined) return;
    if (padded) this.#transport?.write(PADDING);
    this.#transport?.write(openingFrame(FRAME.open, 0, this.#opening));
    this.#cancelOpening = this.#options.timer(
      () => this.#sayOpen(true, Math.min(pauseMs * 2, OPEN_RETRY_MAX_MS)),
      pauseMs,
    );
  }

  /** Forgets the connection. */
  #drop(): void {
    this.#reader?.stop();
    this.#reader = undefined;
    this.#transport = undefined;
    this.#opening = undefined;
    this.#cancelOpening?.();
    this.#cancelDirty?.();
    this.#cancelDirty = undefined;
    this.#dirty.clear();
    this.#pings.clear();
    this.#core.disconnect();
  }

  /** Ends all for good. */
  #end(end: HostPeerEnd): void {
    if (this.#over) return;
    this.#transport?.close();
    this.dispose("the talk with the agent is over");
    this.#options.over(end);
  }

  /** Drops connection, streams and requests; nobody is told but the streams. */
  dispose(reason: string): void {
    this.#over = true;
    this.#drop();
    this.#pending.clear();
    this.#core.abandon(reason);
  }

  /** Tells the guest at once what was consumed, so that a later host gets nothing twice. */
  flush(): void {
    for (const stream of this.#dirty) stream.acknowledge();
    this.#dirty.clear();
  }

  #acknowledgeSoon(stream: InboundEnd): void {
    this.#dirty.add(stream);
    this.#cancelDirty ??= this.#options.timer(() => {
      this.#cancelDirty = undefined;
      this.flush();
    }, ACKNOWLEDGE_DELAY_MS);
  }

  #begins(head: FrameHead, payload: Uint8Array): boolean {
    const answer = head.type === FRAME.openAck ? readOpening(payload) : undefined;
    return answer !== undefined && this.#opening !== undefined &&
      sameNumber(answer.nonce, this.#opening.nonce) &&
      sameNumber(answer.session, this.#opening.session);
  }

  #frame(head: FrameHead, payload: Uint8Array): void {
    try {
      if (!this.#core.open) this.#opened(head, payload);
      else if (!this.#core.frame(head, payload)) this.#nuisance();
    } catch (error) {
      const message = error instanceof Violation ? error.message : String(error);
      this.#end({ kind: "violation", message });
    }
  }

  #nuisance(): void {
    if (this.#nuisances.take(this.#options.now())) return;
    throw new Violation("too many frames came that were of no use");
  }

  /** The agent has answered the opening. */
  #opened(head: FrameHead, payload: Uint8Array): void {
    const answer = readOpening(payload);
    const transport = this.#transport;
    if (answer === undefined || transport === undefined) return;
    this.#cancelOpening?.();
    if (answer.protocol !== PROTOCOL_VERSION) {
      this.#end({ kind: "version", version: answer.protocol });
      return;
    }
    const resumed = (head.flags & FLAG.resumed) !== 0;
    // The answer to a first opening may have been cut off: then the session goes on all the same.
    if (this.#wasOpen && !resumed) {
      this.#end({ kind: "lost", message: "it does not know what was said before" });
      return;
    }
    this.#wasOpen = true;
    if ((head.flags & FLAG.wide) !== 0) this.#core.windowBytes = WIDE_WINDOW_BYTES;
    this.#core.connect(transport);
    this.#core.control.resume(answer.expected);
    for (const stream of this.#core.inbound.values()) stream.attach();
    for (const stream of this.#core.outbound.values()) this.#core.ask(stream);
    this.#options.connected();
    this.#core.pump();
  }

  #other(head: FrameHead): boolean {
    // The answer to an opening that was said again.
    if (head.type === FRAME.openAck) return false;
    if (head.type !== FRAME.pong) {
      this.#options.log(`frame of type ${head.type} was not understood and is ignored`);
      return false;
    }
    this.#core.control.acknowledge(head.b);
    const answered = this.#pings.get(head.id);
    this.#pings.delete(head.id);
    answered?.();
    return answered !== undefined;
  }

  /**
   * Asks whether the agent is there.
   *
   * @param answered Called when it answers in this connection.
   * @returns Whether the question was sent.
   */
  ping(answered: () => void): boolean {
    if (!this.#core.open || this.#pings.size >= REQUESTS_MAX) return false;
    this.#lastPing = this.#lastPing + 1 >>> 0;
    this.#pings.set(this.#lastPing, answered);
    this.#core.control.told();
    const expected = this.#core.control.expected;
    this.#core.sendNow(makeFrame(FRAME.ping, 0, this.#lastPing, NOTHING, 0, expected));
    return true;
  }

  /**
   * Sends a request, now or when a connection is open.
   *
   * @param op Which.
   * @param args Its arguments.
   * @param settle Called with the outcome, unless all ends before.
   * @returns Why it cannot be sent; undefined where it can.
   */
  request<K extends RequestName>(
    op: K,
    args: Requests[K]["args"],
    settle: (outcome: RequestOutcome<K>) => void,
  ): string | undefined {
    if (this.#pending.size >= REQUESTS_MAX) return `${REQUESTS_MAX} requests wait for an answer`;
    const payload = encodeUtf8(JSON.stringify({ op, args }));
    if (payload.length > HOST_MESSAGE_BYTES_MAX) {
      return `it has ${payload.length} bytes, at most ${HOST_MESSAGE_BYTES_MAX} are possible`;
    }
    const id = this.#requestId();
    this.#pending.set(id, {
      op,
      // The result was checked to be one of this request.
      settle: (outcome) => settle(outcome as RequestOutcome<K>),
    });
    if (this.#core.send(FRAME.request, 0, id, payload)) return undefined;
    this.#pending.delete(id);
    return "too much waits to be sent";
  }

  #requestId(): number {
    do this.#lastRequest = this.#lastRequest + 1 >>> 0; while (
      this.#pending.has(this.#lastRequest)
    );
    return this.#lastRequest;
  }

  #message(type: number, flags: number, id: number, payload: Uint8Array): boolean {
    if (type === FRAME.answer) this.#answered(flags, id, payload);
    else if (type === FRAME.event) this.#told(payload);
    else {
      this.#options.log(`message of type ${type} was not understood and is ignored`);
      return false;
    }
    return true;
  }

  #answered(flags: number, id: number, payload: Uint8Array): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) throw new Violation(`answered request ${id}, which was not asked`);
    this.#pending.delete(id);
    const value = parse(payload);
    if ((flags & FLAG.failed) !== 0) {
      pending.settle({ kind: "failure", failure: checkFailure(value) });
    } else {
      pending.settle({ kind: "result", result: checkResult(pending.op, value) });
    }
  }

  #told(payload: Uint8Array): void {
    if (!this.#events.take(this.#options.now())) throw new Violation("too many events came");
    this.#options.event(checkEvent(parse(payload)));
  }

  /**
   * Opens the host's end of a process's input.
   *
   * @param id A number that was not used in this guest before.
   * @param adopt Whether an earlier process has written to it: goes on where that stopped.
   * @returns undefined where the id is in use or too many streams are open.
   */
  openInput(id: number, adopt: boolean): OutboundStream | undefined {
    const stream = this.#over ? undefined : this.#core.openOutbound(id, adopt);
    // A new one is told of by the guest when it opens its end.
    if (stream !== undefined && adopt) this.#core.ask(stream);
    return stream;
  }

  /**
   * Opens the host's end of an output.
   *
   * @param id A number that was not used in this guest before.
   * @param adopt Whether an earlier process has read from it: goes on after what that acknowledged.
   * @returns undefined where the id is in use or too many streams are open.
   */
  openOutput(id: number, adopt: boolean): InboundStream | undefined {
    return this.#over ? undefined : this.#core.openInbound(id, adopt);
  }
}

function parse(payload: Uint8Array): unknown {
  try {
    return JSON.parse(decodeUtf8(payload));
  } catch (error) {
    throw new Violation(`a message is not JSON: ${String(error)}`);
  }
}
