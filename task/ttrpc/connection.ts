/**
 * One accepted connection: reads requests, runs them, writes the answers, and gives the peer up when
 * it breaks the protocol, stops in the middle of a frame or does not read what it asked for.
 *
 * @module
 */

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Socket } from "node:net";
import { type Request, RequestSchema, ResponseSchema } from "../../proto/gen/ttrpc/request_pb.ts";
import type { LifecycleLog } from "../../sandboxers/lifecycle/core.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { OpenCall } from "./call.ts";
import {
  encodeAnswer,
  encodeFrame,
  FLAG,
  type Frame,
  type FrameHeader,
  FrameReader,
  type FrameSink,
  MAX_DATA_BYTES,
  MESSAGE_TYPE,
  RELAY_MESSAGE_TYPE,
} from "./frames.ts";
import { Outbox, type OutboxLimits } from "./outbox.ts";
import type { ServiceTable } from "./services.ts";
import { statusOf } from "./status.ts";

/** What one connection may use of the server. */
export interface ConnectionLimits extends OutboxLimits {
  /** Calls in progress; one more is answered `ResourceExhausted`. */
  readonly calls: number;
  /** How long a frame may take to arrive, and queued bytes may take to move, in milliseconds. */
  readonly stallMs: number;
}

/** What a connection needs of its server. */
export interface ConnectionOptions {
  /** What can be called. */
  readonly services: ServiceTable;
  /** What it may use. */
  readonly limits: ConnectionLimits;
  /** Where it says why it gave a peer up. */
  readonly log: LifecycleLog;
  /** Called once, when the connection is closed and all its calls are aborted. */
  readonly onClosed: (connection: Connection) => void;
}

/** A connection of a server. */
export class Connection implements FrameSink {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #reader = new FrameReader(this);
  /** Calls that wait for their answer, by stream. */
  readonly #calls = new Map<number, OpenCall>();
  /** Handlers that run, also of calls that were answered by their deadline. */
  #running = 0;
  #lastStreamId = 0;
  readonly #outbox: Outbox;
  #frameTimer: ReturnType<typeof setTimeout> | undefined;
  #refusal: SandboxError | undefined;
  #hearsFarewell = false;
  #onIdle: (() => void) | undefined;
  #closed = false;

  /**
   * Takes a socket over.
   *
   * @param socket An accepted socket.
   * @param options See {@link ConnectionOptions}.
   */
  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#outbox = new Outbox(socket, options.limits, (why) => this.#drop(why));
    socket.on("data", (chunk: Uint8Array) => this.#receive(chunk));
    socket.on("error", () => this.#close());
    // A peer that ends its side is gone: no ttrpc client half-closes and waits.
    socket.on("end", () => this.destroy());
    socket.on("close", () => this.#close());
  }

  /** Calls that wait for their answer. */
  get openCalls(): number {
    return this.#calls.size;
  }

  /** See {@link FrameSink.frame}. */
  frame(frame: Frame): void {
    this.#stopFrameTimer();
    if (frame.type === MESSAGE_TYPE.request) {
      this.#request(frame);
    } else if (frame.type === MESSAGE_TYPE.data) {
      this.#data(frame);
    } else if (frame.type === RELAY_MESSAGE_TYPE.hello) {
      this.#hearsFarewell = true;
    }
    // Other types belong to later versions of the protocol and are ignored, as containerd does.
  }

  /** See {@link FrameSink.oversized}. */
  oversized(header: FrameHeader, dataBytes: number): void {
    this.#stopFrameTimer();
    if (header.type === MESSAGE_TYPE.request && header.streamId > this.#lastStreamId) {
      this.#lastStreamId = header.streamId;
    }
    this.#fail(
      header.streamId,
      new SandboxError(
        "ResourceExhausted",
        `cannot read a ttrpc message of ${dataBytes} bytes: at most ${MAX_DATA_BYTES} are allowed`,
      ),
    );
  }

  /**
   * Answers new requests with an error from now on.
   *
   * @param reason The answer.
   */
  refuse(reason: SandboxError): void {
    this.#refusal = reason;
  }

  /** Resolves when no call waits for its answer. */
  async idle(): Promise<void> {
    if (this.#calls.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onIdle = resolve;
    await promise;
  }

  /**
   * Answers every open call with an error and closes once the answers are written. What comes from now
   * on is not begun: a relay is told so.
   */
  end(reason: SandboxError): void {
    for (const call of [...this.#calls.values()]) this.#giveUp(call, reason);
    this.#reader.stop();
    if (this.#hearsFarewell) {
      const header: FrameHeader = { streamId: 0, type: RELAY_MESSAGE_TYPE.farewell, flags: 0 };
      this.#outbox.write(encodeFrame(header, new Uint8Array()));
    }
    this.#outbox.release();
    this.#socket.end();
  }

  /** Closes at once, whatever is queued. */
  destroy(): void {
    this.#socket.destroy();
    this.#close();
  }

  #receive(chunk: Uint8Array): void {
    if (this.#closed) return;
    this.#outbox.hold();
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#drop(error instanceof Error ? error.message : String(error));
      return;
    } finally {
      this.#outbox.release();
    }
    if (!this.#reader.midFrame || this.#closed) return;
    this.#frameTimer ??= setTimeout(
      () => this.#drop("the peer stopped in the middle of a frame"),
      this.#options.limits.stallMs,
    );
  }

  #stopFrameTimer(): void {
    clearTimeout(this.#frameTimer);
    this.#frameTimer = undefined;
  }

  #request(frame: Frame): void {
    const { streamId } = frame;
    const refused = this.#checkStream(streamId) ?? this.#refusal;
    if (refused !== undefined) return this.#fail(streamId, refused);
    let request: Request;
    try {
      request = fromBinary(RequestSchema, frame.data);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      return this.#fail(
        streamId,
        new SandboxError("InvalidArgument", `cannot decode ttrpc request: ${text}`),
      );
    }
    const call = new OpenCall(streamId, request);
    try {
      this.#admit(frame, call);
      this.#run(call, request);
    } catch (error) {
      this.#failCall(call, error);
    }
  }

  /** Why a stream id cannot begin a call; undefined when it can. */
  #checkStream(streamId: number): SandboxError | undefined {
    const problem = streamId % 2 !== 1
      ? "expected an odd number, as all streams that a client begins have"
      : streamId <= this.#lastStreamId
      ? `expected more than ${this.#lastStreamId}, the last one used`
      : undefined;
    if (problem === undefined) {
      this.#lastStreamId = streamId;
      return undefined;
    }
    return new SandboxError(
      "InvalidArgument",
      `cannot begin ttrpc stream ${streamId}: ${problem}`,
    );
  }

  /** Throws when the call cannot be taken on. */
  #admit(frame: Frame, call: OpenCall): void {
    if ((frame.flags & FLAG.remoteOpen) !== 0) {
      throw new SandboxError(
        "Unimplemented",
        `cannot call ${call.method} as a stream: only unary calls are served here`,
      );
    }
    if (call.expired) throw deadlineExceeded(call);
    const { calls } = this.#options.limits;
    if (this.#running >= calls) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot call ${call.method}: ${calls} calls are in progress on this connection already`,
      );
    }
  }

  /** Runs the handler. What it throws at once is thrown here. */
  #run(call: OpenCall, request: Request): void {
    const method = this.#options.services.find(request.service, request.method);
    const answer = method(request.payload, call);
    if (!(answer instanceof Promise)) return this.#succeed(call.streamId, call.method, answer);
    this.#running += 1;
    this.#calls.set(call.streamId, call);
    call.startClock(() => this.#giveUp(call, deadlineExceeded(call)));
    answer.then(
      (payload) => {
        this.#running -= 1;
        if (this.#settle(call)) this.#succeed(call.streamId, call.method, payload);
      },
      (error: unknown) => {
        this.#running -= 1;
        if (this.#settle(call)) this.#failCall(call, error);
      },
    );
  }

  /** Answers a call with an error before its handler has ended, and tells the handler. */
  #giveUp(call: OpenCall, reason: SandboxError): void {
    if (!this.#settle(call)) return;
    this.#fail(call.streamId, reason);
    call.abort(reason);
  }

  /** Takes a call off the books; false when it was answered before. */
  #settle(call: OpenCall): boolean {
    call.finish();
    const open = this.#calls.delete(call.streamId);
    this.#checkIdle();
    return open;
  }

  /** The answer of the last call is written before those who wait here get their turn. */
  #checkIdle(): void {
    if (this.#calls.size > 0) return;
    this.#onIdle?.();
    this.#onIdle = undefined;
  }

  /** Stream data: nothing here takes any. */
  #data(frame: Frame): void {
    const { streamId } = frame;
    const call = this.#calls.get(streamId);
    // The stream was answered already; what its caller had sent by then is of no interest.
    if (call === undefined && streamId % 2 === 1 && streamId <= this.#lastStreamId) return;
    const reason = new SandboxError(
      "InvalidArgument",
      call === undefined
        ? `cannot take data for ttrpc stream ${streamId}: no such stream is open`
        : `cannot take data for ttrpc stream ${streamId}: ${call.method} is a unary call`,
    );
    if (call === undefined) this.#fail(streamId, reason);
    else this.#giveUp(call, reason);
  }

  #succeed(streamId: number, method: string, payload: Uint8Array): void {
    const frame = encodeAnswer(streamId, payload);
    if (frame !== undefined) return this.#outbox.write(frame);
    const error = new SandboxError(
      "ResourceExhausted",
      `cannot answer ${method}: the answer of ${payload.length} bytes does not fit a ttrpc ` +
        `message of ${MAX_DATA_BYTES}`,
    );
    this.#options.log.warn(error.message);
    this.#fail(streamId, error);
  }

  /** Answers a call with what its handler threw, and logs what should not have been thrown. */
  #failCall(call: OpenCall, thrown: unknown): void {
    if (!(thrown instanceof SandboxError)) {
      this.#options.log.warn("ttrpc handler failed", {
        method: call.method,
        error: thrown,
      });
    }
    this.#fail(call.streamId, thrown);
  }

  #fail(streamId: number, thrown: unknown): void {
    const answer = create(ResponseSchema, { status: statusOf(thrown) });
    const header: FrameHeader = { streamId, type: MESSAGE_TYPE.response, flags: 0 };
    this.#outbox.write(encodeFrame(header, toBinary(ResponseSchema, answer)));
  }

  /** Closes because of what the peer did. */
  #drop(why: string): void {
    if (this.#closed) return;
    this.#options.log.warn(`ttrpc connection dropped: ${why}`, { openCalls: this.#calls.size });
    this.destroy();
  }

  #close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reader.stop();
    this.#outbox.close();
    this.#stopFrameTimer();
    const calls = [...this.#calls.values()];
    this.#calls.clear();
    const reason = new SandboxError("Cancelled", "the caller closed its connection");
    for (const call of calls) call.abort(reason);
    this.#checkIdle();
    this.#options.onClosed(this);
  }
}

function deadlineExceeded(call: OpenCall): SandboxError {
  return new SandboxError("DeadlineExceeded", `cannot finish ${call.method}: deadline exceeded`);
}
