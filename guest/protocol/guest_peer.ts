/**
 * The guest's end of the wire. It waits for hosts, answers requests by handlers, and keeps streams
 * over connections and hosts. Runs in QuickJS: nothing but the language is used.
 *
 * @module
 */

import { AgentError } from "./agent_error.ts";
import { checkArguments } from "./checks.ts";
import {
  FLAG,
  FRAME,
  type FrameHead,
  makeFrame,
  type Opening,
  openingFrame,
  readOpening,
  sameNumber,
  type Window,
} from "./frames.ts";
import { FrameReader } from "./frame_reader.ts";
import type { InboundEnd } from "./inbound_stream.ts";
import {
  GUEST_CONTROL_BYTES_MAX,
  GUEST_MESSAGE_BYTES_MAX,
  GUEST_RETAINED_BYTES_MAX,
  HOST_MESSAGE_BYTES_MAX,
  REASON_LENGTH_MAX,
  STREAM_ID_MAX,
  STREAMS_MAX,
} from "./limits.ts";
import { type AgentEvent, type AgentFailure, PROTOCOL_VERSION } from "./messages.ts";
import { isRequestName } from "./checks.ts";
import type { OutboundEnd } from "./outbound_stream.ts";
import type {
  GuestPeer,
  GuestPeerOptions,
  InboundStream,
  OutboundStream,
  RequestHandler,
} from "./peer.ts";
import { PeerCore } from "./peer_core.ts";
import type { Transport, TransportSink } from "./transport.ts";
import { decodeUtf8, encodeUtf8 } from "./utf8.ts";
import { Violation } from "./violation.ts";

/** Makes the guest's end. */
export function createGuestPeer(options: GuestPeerOptions): GuestPeer {
  return new GuestEnd(options);
}

class GuestEnd implements GuestPeer {
  readonly #options: GuestPeerOptions;
  readonly #core: PeerCore;
  #reader: FrameReader | undefined;
  #transport: Transport | undefined;
  /** The connection that was opened last. */
  #opening: Opening | undefined;
  /** Changes with each session: answers to an earlier host are not for this one. */
  #epoch = 0;
  /** What the host told of streams that were not opened here yet. */
  readonly #early = new Map<number, { readonly window: Window; readonly flags: number }>();
  #lastStream = 0;

  constructor(options: GuestPeerOptions) {
    this.#options = options;
    this.#core = new PeerCore({
      receiveBytesMax: HOST_MESSAGE_BYTES_MAX,
      controlBytesMax: GUEST_CONTROL_BYTES_MAX,
      retainedBytesMax: GUEST_RETAINED_BYTES_MAX,
      sendsWide: true,
      message: (type, _flags, id, payload) => this.#message(type, id, payload),
      other: (head, payload) => this.#other(head, payload),
      missing: (head, window) => this.#missing(head, window),
      forget: (id) => void this.#early.delete(id),
      overflow: () => options.log("too many messages wait for the host: one was dropped"),
    });
  }

  get connected(): boolean {
    return this.#core.open;
  }

  get lastStream(): number {
    return this.#lastStream;
  }

  attach(transport: Transport): TransportSink {
    this.#reader?.stop();
    this.#core.disconnect();
    this.#transport = transport;
    const reader = new FrameReader({
      onFrame: (head, payload) => this.#frame(head, payload),
      begins: (head) => head.type === FRAME.open,
      onLost: () => this.#close("the bytes of the host went out of step"),
    });
    this.#reader = reader;
    const current = () => this.#reader === reader;
    return {
      onBytes: (bytes) => reader.push(bytes),
      onDrain: () => {
        if (current()) this.#core.drained();
      },
      onClosed: (reason) => {
        if (current()) this.#close(reason);
      },
    };
  }

  /** The connection is over; the transport may live on. */
  #close(reason: string): void {
    this.#reader?.restart();
    this.#leave(reason);
  }

  /** The host is gone, or another one is there. */
  #leave(reason: string): void {
    if (!this.#core.open) return;
    this.#core.disconnect();
    this.#transport?.discard();
    this.#options.log(`connection to the host is over: ${reason}`);
    this.#options.disconnected?.();
  }

  #frame(head: FrameHead, payload: Uint8Array): void {
    try {
      if (head.type === FRAME.open) this.#open(payload);
      else if (!this.#core.open) this.#options.log(`frame ${head.type} came before a host`);
      else if (!this.#core.frame(head, payload)) this.#unused(head);
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      // The host finds out as nothing is answered any more.
      this.#close(`protocol broken: ${error.message}`);
    }
  }

  #unused(head: FrameHead): void {
    // Late frames of streams that are over are nothing to tell of.
    if (head.type < FRAME.data && head.type !== FRAME.close) {
      this.#options.log(`frame of type ${head.type} was not understood and is ignored`);
    }
  }

  #open(payload: Uint8Array): void {
    const opening = readOpening(payload);
    const transport = this.#transport;
    if (opening === undefined || transport === undefined) return;
    const last = this.#opening;
    const again = last !== undefined && sameNumber(last.nonce, opening.nonce);
    const resumed = last !== undefined && sameNumber(last.session, opening.session);
    if (again && this.#core.open) {
      // The host was not sure that we had heard it.
      transport.write(this.#answer(opening, resumed && this.#wasResumed));
      return;
    }
    this.#leave("the host has connected again");
    transport.discard();
    this.#opening = opening;
    this.#wasResumed = resumed;
    this.#core.connect(transport);
    if (resumed) this.#core.control.resume(opening.expected);
    else this.#beginSession();
    transport.write(this.#answer(opening, resumed));
    this.#options.connected(resumed);
    this.#core.pump();
  }

  /** Whether the connection that is open went on with a session. */
  #wasResumed = false;

  #beginSession(): void {
    this.#epoch++;
    this.#early.clear();
    this.#core.control.reset();
  }

  #answer({ nonce, session }: Opening, resumed: boolean): Uint8Array {
    return openingFrame(FRAME.openAck, (resumed ? FLAG.resumed : 0) | FLAG.wide, {
      nonce,
      session,
      protocol: PROTOCOL_VERSION,
      expected: this.#core.control.expected,
    });
  }

  #other(head: FrameHead, payload: Uint8Array): boolean {
    if (head.type !== FRAME.ping) return false;
    this.#core.control.told();
    this.#core.sendNow(
      makeFrame(FRAME.pong, 0, head.id, payload, 0, this.#core.control.expected),
    );
    return true;
  }

  #missing(head: FrameHead, window: Window | undefined): boolean {
    if ((head.flags & FLAG.adopt) !== 0) {
      this.#core.tellClosed(head.id, 0, `stream ${head.id} is over or was never there`);
      return true;
    }
    if (window === undefined || (head.flags & FLAG.resume) === 0) return false;
    if (this.#early.size >= STREAMS_MAX) {
      const [oldest] = this.#early.keys();
      if (oldest !== undefined) this.#early.delete(oldest);
    }
    this.#early.set(head.id, { window, flags: head.flags });
    return true;
  }

  #message(type: number, id: number, payload: Uint8Array): boolean {
    if (type !== FRAME.request) return false;
    this.#request(id, payload);
    return true;
  }

  /** Not async itself: most answers are there at once, and promises take an emulated guest long. */
  #request(id: number, payload: Uint8Array): void {
    const epoch = this.#epoch;
    const fail = (error: unknown) => {
      this.#reply(epoch, id, FLAG.failed, JSON.stringify(failureOf(error)));
    };
    const succeed = (result: unknown) => {
      let text: string;
      try {
        text = JSON.stringify(result);
      } catch (error) {
        fail(error);
        return;
      }
      this.#reply(epoch, id, 0, text);
    };
    let result: unknown;
    try {
      result = this.#handle(payload);
    } catch (error) {
      fail(error);
      return;
    }
    if (result instanceof Promise) result.then(succeed, fail);
    else succeed(result);
  }

  #reply(epoch: number, id: number, flags: number, text: string): void {
    if (epoch !== this.#epoch) return;
    if (text.length > GUEST_MESSAGE_BYTES_MAX / 3) {
      const failure = new AgentError("ResourceExhausted", "the answer is too large");
      flags = FLAG.failed;
      text = JSON.stringify(failureOf(failure));
    }
    if (!this.#core.send(FRAME.answer, flags, id, encodeUtf8(text))) {
      this.#options.log("too many messages wait for the host: an answer was dropped");
    }
  }

  #handle(payload: Uint8Array): unknown {
    const { op, args } = parseRequest(payload);
    const handler = isRequestName(op) ? this.#options.handlers[op] : undefined;
    if (!isRequestName(op) || handler === undefined) {
      throw new AgentError("Unimplemented", `cannot do "${op}": this agent does not know it`);
    }
    const problem = checkArguments(op, args);
    if (problem !== undefined) {
      throw new AgentError("InvalidArgument", `cannot do "${op}": ${problem}`);
    }
    // The check above has seen to it that these are the arguments of this request.
    return (handler as RequestHandler<typeof op>)(args as never);
  }

  event(event: AgentEvent): boolean {
    if (this.#opening === undefined) return false;
    return this.#core.send(FRAME.event, 0, 0, encodeUtf8(JSON.stringify(event)));
  }

  openInput(id: number): InboundStream {
    return this.#opened(id, this.#core.openInbound(id, false));
  }

  openOutput(id: number): OutboundStream {
    const stream: OutboundEnd = this.#opened(id, this.#core.openOutbound(id, false));
    const early = this.#early.get(id);
    this.#early.delete(id);
    if (early !== undefined && this.#core.open) stream.window(early.window, early.flags);
    return stream;
  }

  #opened<T extends InboundEnd | OutboundEnd>(id: number, stream: T | undefined): T {
    if (stream !== undefined) {
      this.#lastStream = Math.max(this.#lastStream, id);
      return stream;
    }
    if (!Number.isInteger(id) || id <= 0 || id > STREAM_ID_MAX) {
      throw new AgentError("InvalidArgument", `cannot open stream ${id}: not a stream's number`);
    }
    if (this.#core.has(id)) {
      throw new AgentError("AlreadyExists", `cannot open stream ${id}: it is open`);
    }
    throw new AgentError("ResourceExhausted", `cannot open stream ${id}: too many are open`);
  }
}

function parseRequest(payload: Uint8Array): { readonly op: string; readonly args: unknown } {
  let request: unknown;
  try {
    request = JSON.parse(decodeUtf8(payload));
  } catch (error) {
    throw new AgentError("InvalidArgument", `cannot read a request: ${String(error)}`);
  }
  if (
    typeof request !== "object" || request === null ||
    !("op" in request) || typeof request.op !== "string" || !("args" in request)
  ) {
    throw new AgentError("InvalidArgument", "cannot read a request: it has no op or no args");
  }
  return { op: request.op, args: request.args };
}

function failureOf(error: unknown): AgentFailure {
  if (error instanceof AgentError) {
    return { code: error.code, message: error.message.slice(0, REASON_LENGTH_MAX) };
  }
  return { code: "Internal", message: String(error).slice(0, REASON_LENGTH_MAX) };
}
