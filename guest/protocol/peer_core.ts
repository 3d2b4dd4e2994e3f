/**
 * What both ends of the wire have in common: who may send next, and which stream a frame belongs to.
 * Control messages go before data; streams take turns, a frame each.
 *
 * @module
 */

import { ControlChannel } from "./control_channel.ts";
import { FLAG, FRAME, type FrameHead, isControl, makeFrame, offsetOf } from "./frames.ts";
import { readWindow, type Window } from "./frames.ts";
import { InboundEnd, type InboundHome } from "./inbound_stream.ts";
import { REASON_LENGTH_MAX, STREAM_ID_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX } from "./limits.ts";
import { OutboundEnd, type OutboundShare } from "./outbound_stream.ts";
import type { Transport } from "./transport.ts";
import { decodeUtf8, encodeUtf8 } from "./utf8.ts";
import { Violation } from "./violation.ts";

/** What differs between host and guest. */
export interface CoreOptions {
  /** The largest message that is taken. */
  readonly receiveBytesMax: number;
  /** Bytes of control messages that may wait. */
  readonly controlBytesMax: number;
  /** Bytes that all streams may keep. */
  readonly retainedBytesMax: number;
  /** See {@link OutboundShare.sendsWide}. */
  readonly sendsWide: boolean;
  /** Takes a request, answer or event. */
  message(type: number, flags: number, id: number, payload: Uint8Array): boolean;
  /** Takes a frame that is none of a stream and no control message. */
  other(head: FrameHead, payload: Uint8Array): boolean;
  /** A stream is wanted that is not here; the answer tells whether that was of use. */
  missing(head: FrameHead, window: Window | undefined): boolean;
  /** The other side has closed a stream that is not here. */
  forget?(id: number): void;
  /** A message that must not get lost found no room. */
  overflow(): void;
  /** See {@link InboundHome.soon}. */
  readonly soon?: (stream: InboundEnd) => void;
}

const NOTHING = new Uint8Array(0);

/** See the module. */
export class PeerCore implements OutboundShare, InboundHome {
  /** Numbered messages. */
  readonly control: ControlChannel;
  /** Streams that bytes are sent on. */
  readonly outbound: Map<number, OutboundEnd> = new Map();
  /** Streams that bytes come on. */
  readonly inbound: Map<number, InboundEnd> = new Map();
  readonly soon?: (stream: InboundEnd) => void;
  retainedBytes = 0;
  readonly retainedBytesMax: number;
  readonly sendsWide: boolean;
  /** See {@link InboundHome.windowBytes}; may grow when a connection begins. */
  windowBytes: number = STREAM_WINDOW_BYTES;
  readonly spare: Uint8Array[] = [];
  readonly starved: Set<OutboundEnd> = new Set();
  readonly #options: CoreOptions;
  /** Streams that may have something to send, in the order of their turns. */
  #ready: OutboundEnd[] = [];
  readonly #waiting = new Set<OutboundEnd>();
  #transport: Transport | undefined;
  #writable = false;
  #pumping = false;

  /**
   * A core without a connection.
   *
   * @param options What differs between host and guest.
   */
  constructor(options: CoreOptions) {
    this.#options = options;
    this.retainedBytesMax = options.retainedBytesMax;
    this.sendsWide = options.sendsWide;
    if (options.soon !== undefined) this.soon = options.soon;
    this.control = new ControlChannel({
      receiveBytesMax: options.receiveBytesMax,
      sendBytesMax: options.controlBytesMax,
      message: (type, flags, id, payload) => this.#message(type, flags, id, payload),
    });
  }

  /** Whether messages and bytes can be sent now. */
  get open(): boolean {
    return this.#transport !== undefined;
  }

  /** The handshake is done: begins to send. Streams have to be told where to go on. */
  connect(transport: Transport): void {
    this.#transport = transport;
    this.#writable = true;
    this.#ready = [];
    this.#waiting.clear();
    for (const stream of this.outbound.values()) stream.detach();
  }

  /** Nothing can be sent any more. */
  disconnect(): void {
    this.#transport = undefined;
    this.#writable = false;
  }

  /** The transport's queue has room. */
  drained(): void {
    this.#writable = this.#transport !== undefined;
    this.pump();
  }

  /**
   * Queues a control message.
   *
   * @returns Whether there was room.
   */
  send(type: number, flags: number, id: number, payload: Uint8Array): boolean {
    const taken = this.control.send(type, flags, id, payload);
    this.pump();
    return taken;
  }

  /** See {@link InboundHome.sendNow}. */
  sendNow(frame: Uint8Array): void {
    if (this.#transport !== undefined && !this.#transport.write(frame)) this.#writable = false;
  }

  /** See {@link OutboundShare.wake}. */
  wake(stream: OutboundEnd): void {
    if (!this.#waiting.has(stream)) {
      this.#waiting.add(stream);
      this.#ready.push(stream);
    }
    this.pump();
  }

  /** Sends what can be sent. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#writable && this.#transport !== undefined) {
      const frame = this.control.nextFrame() ?? this.control.acknowledgement() ?? this.#nextData();
      if (frame === undefined) break;
      if (!this.#transport.write(frame)) this.#writable = false;
    }
    this.#pumping = false;
  }

  #nextData(): Uint8Array | undefined {
    for (let stream = this.#ready.shift(); stream !== undefined; stream = this.#ready.shift()) {
      const frame = stream.nextFrame();
      if (frame !== undefined) {
        this.#ready.push(stream);
        return frame;
      }
      this.#waiting.delete(stream);
    }
    return undefined;
  }

  /**
   * Opens the receiving end of a stream.
   *
   * @returns undefined where the id cannot be used.
   */
  openInbound(id: number, adopt: boolean): InboundEnd | undefined {
    if (!this.#usable(id) || this.inbound.size >= STREAMS_MAX) return undefined;
    const stream = new InboundEnd(id, this, adopt);
    this.inbound.set(id, stream);
    stream.attach();
    return stream;
  }

  /**
   * Opens the sending end of a stream.
   *
   * @returns undefined where the id cannot be used.
   */
  openOutbound(id: number, adopt: boolean): OutboundEnd | undefined {
    if (!this.#usable(id) || this.outbound.size >= STREAMS_MAX) return undefined;
    const stream = new OutboundEnd(id, this, adopt);
    this.outbound.set(id, stream);
    return stream;
  }

  #usable(id: number): boolean {
    return Number.isInteger(id) && id > 0 && id <= STREAM_ID_MAX && !this.has(id);
  }

  /** Whether a stream is open. */
  has(id: number): boolean {
    return this.inbound.has(id) || this.outbound.has(id);
  }

  /** Asks where a stream is that bytes are sent on. */
  ask(stream: OutboundEnd): void {
    const flags = stream.adopting ? FLAG.adopt : 0;
    this.sendNow(makeFrame(FRAME.ask, flags, stream.id, NOTHING));
  }

  /** See {@link InboundHome.finished}. */
  finished(stream: InboundEnd): void {
    this.inbound.delete(stream.id);
    this.tellClosed(stream.id, FLAG.finished, "");
  }

  /** A stream was reset by its user; see {@link InboundHome} and {@link OutboundShare}. */
  resetHere(stream: InboundEnd | OutboundEnd, reason: string): void {
    this.inbound.delete(stream.id);
    this.outbound.delete(stream.id);
    this.tellClosed(stream.id, 0, reason);
    this.#feedStarved();
  }

  /** Tells the other side that a stream is over. */
  tellClosed(id: number, flags: number, reason: string): void {
    const payload = reason === "" ? NOTHING : encodeUtf8(reason.slice(0, REASON_LENGTH_MAX));
    if (!this.send(FRAME.close, flags, id, payload)) this.#options.overflow();
  }

  /** Gives all streams up without telling the other side. */
  abandon(reason: string): void {
    const inbound = [...this.inbound.values()];
    const outbound = [...this.outbound.values()];
    this.inbound.clear();
    this.outbound.clear();
    for (const stream of inbound) stream.resetFromThere(reason);
    for (const stream of outbound) stream.closeFromThere(false, reason);
  }

  /**
   * Takes a frame of an open connection.
   *
   * @returns Whether it was of use.
   * @throws {Violation} For what must not be.
   */
  frame(head: FrameHead, payload: Uint8Array): boolean {
    const { type } = head;
    if (type === FRAME.data) return this.#data(head, payload);
    if (type === FRAME.window) return this.#window(head, payload);
    if (type === FRAME.ask) return this.#asked(head);
    if (isControl(type)) {
      const fresh = this.control.receive(head, payload);
      this.pump();
      return fresh && this.#useful;
    }
    if (type === FRAME.acknowledge) {
      this.control.acknowledge(head.b);
      this.pump();
      return true;
    }
    return this.#options.other(head, payload);
  }

  /** Whether the last message was of use. */
  #useful = true;

  #message(type: number, flags: number, id: number, payload: Uint8Array): void {
    this.#useful = type === FRAME.close
      ? this.#closed(id, flags, payload)
      : this.#options.message(type, flags, id, payload);
  }

  #data(head: FrameHead, payload: Uint8Array): boolean {
    const stream = this.inbound.get(head.id);
    if (stream === undefined) return false;
    const offset = offsetOf(head.a, head.b);
    if (offset === undefined) throw new Violation(`stream ${head.id} is at an impossible offset`);
    return stream.receive(offset, payload, (head.flags & FLAG.end) !== 0);
  }

  #window(head: FrameHead, payload: Uint8Array): boolean {
    const window = readWindow(payload);
    if (window === undefined) {
      throw new Violation(`stream ${head.id} was told an impossible window`);
    }
    const stream = this.outbound.get(head.id);
    if (stream === undefined) return this.#options.missing(head, window);
    stream.window(window, head.flags);
    this.#feedStarved();
    return true;
  }

  #asked(head: FrameHead): boolean {
    const stream = this.inbound.get(head.id);
    const adopt = (head.flags & FLAG.adopt) !== 0;
    if (stream === undefined || adopt && stream.endKnown) {
      return this.#options.missing(head, undefined);
    }
    stream.attach();
    return true;
  }

  #closed(id: number, flags: number, payload: Uint8Array): boolean {
    const finished = (flags & FLAG.finished) !== 0;
    const reason = decodeUtf8(payload).slice(0, REASON_LENGTH_MAX);
    const inbound = this.inbound.get(id);
    const outbound = this.outbound.get(id);
    this.inbound.delete(id);
    this.outbound.delete(id);
    inbound?.resetFromThere(reason);
    outbound?.closeFromThere(finished, reason);
    this.#feedStarved();
    if (inbound !== undefined || outbound !== undefined) return true;
    this.#options.forget?.(id);
    return false;
  }

  /** Gives room that has become free to those who wait for it. */
  #feedStarved(): void {
    for (const stream of this.starved) {
      if (this.retainedBytes >= this.retainedBytesMax) return;
      this.starved.delete(stream);
      stream.writable();
    }
  }
}
