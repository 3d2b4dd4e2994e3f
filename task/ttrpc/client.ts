/**
 * A ttrpc client: unary calls over one connection to a unix socket. When the connection is lost
 * every open call fails and the client is of no use any more; connecting again is up to the caller.
 *
 * Source: containerd/ttrpc PROTOCOL.md (version 1.2 without streaming).
 *
 * @module
 */

import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import * as net from "node:net";
import { RequestSchema, ResponseSchema } from "../../proto/gen/ttrpc/request_pb.ts";
import { abortError, SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import {
  encodeFrame,
  type Frame,
  type FrameHeader,
  FrameReader,
  MAX_DATA_BYTES,
  MAX_STREAM_ID,
  MESSAGE_TYPE,
} from "./frames.ts";
import { errorOf } from "./status.ts";
import {
  ConnectionTransport,
  socketTransport,
  type Transport,
  type TransportEvents,
} from "./transport.ts";

/** Most calls that wait for their answer on one connection. */
const MAX_OPEN_CALLS = 4_096;
/** Most bytes queued for a server that does not read. */
const MAX_QUEUED_BYTES = 16 << 20;

/** How a connection is made. */
export interface ConnectOptions {
  /** How long connecting may take, in milliseconds. */
  readonly timeoutMs?: number;
  /** Gives connecting up; of no meaning once connected. */
  readonly signal?: AbortSignal;
  /** Sent with every call, such as `containerd-namespace-ttrpc`. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** How a call is made. */
export interface CallOptions {
  /** Deadline in milliseconds from now; sent to the server and held here. None when missing. */
  readonly timeoutMs?: number;
  /** Gives the call up. The protocol cannot tell the server so. */
  readonly signal?: AbortSignal;
  /** Sent with this call, beside the connection's. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A unary method as the generated code types it. */
export type UnaryMethod<I extends DescMessage, O extends DescMessage> =
  & Pick<DescMethod, "name" | "parent">
  & { readonly methodKind: "unary"; readonly input: I; readonly output: O };

interface OpenCall {
  readonly resolve: (payload: Uint8Array) => void;
  readonly reject: (error: SandboxError) => void;
}

const CONNECT_TIMEOUT_MS = 5_000;

/** A connection to a ttrpc server. */
export class TtrpcClient implements Disposable {
  readonly #transport: Transport;
  readonly #metadata: Readonly<Record<string, string>>;
  readonly #calls = new Map<number, OpenCall>();
  readonly #reader = new FrameReader({
    frame: (frame) => this.#answer(frame),
    oversized: (header, dataBytes) =>
      this.#settle(
        header.streamId,
        new SandboxError(
          "ResourceExhausted",
          `cannot read a ttrpc answer of ${dataBytes} bytes: it is larger than allowed`,
        ),
      ),
  });
  #nextStreamId = 1;
  #failure: SandboxError | undefined;

  readonly #closed = Promise.withResolvers<SandboxError>();

  private constructor(
    open: (events: TransportEvents) => Transport,
    metadata: Readonly<Record<string, string>>,
  ) {
    this.#metadata = metadata;
    this.#transport = open({
      data: (chunk) => this.#receive(chunk),
      lost: (why) => this.#fail(why),
    });
  }

  /**
   * Uses a connection that was made already, such as one through a gate.
   *
   * @param connection The connection; the client closes it.
   * @param options Metadata for every call.
   */
  static over(
    connection: Deno.UnixConn,
    options: Pick<ConnectOptions, "metadata"> = {},
  ): TtrpcClient {
    const { metadata = {} } = options;
    return new TtrpcClient((events) => new ConnectionTransport(connection, events), metadata);
  }

  /**
   * Connects.
   *
   * @param path Absolute path of the server's socket.
   * @param options Time limit (5 seconds by default) and metadata for every call.
   * @throws SandboxError `Unavailable` when nobody answers there, `DeadlineExceeded`.
   */
  static async connect(path: string, options: ConnectOptions = {}): Promise<TtrpcClient> {
    const { timeoutMs = CONNECT_TIMEOUT_MS, metadata = {}, signal } = options;
    const action = `cannot connect to "${path}"`;
    if (signal?.aborted === true) throw abortError(signal, action);
    const socket = net.connect({ path });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const timer = setTimeout(
      () => reject(new SandboxError("DeadlineExceeded", `${action}: no answer in ${timeoutMs} ms`)),
      timeoutMs,
    );
    const onAbort = (): void => {
      if (signal !== undefined) reject(abortError(signal, action));
    };
    const refuse = (error: Error): void =>
      reject(new SandboxError("Unavailable", `${action}: ${error.message}`, { cause: error }));
    signal?.addEventListener("abort", onAbort, { once: true });
    socket.once("error", refuse);
    socket.once("connect", () => resolve());
    try {
      await promise;
    } catch (error) {
      socket.on("error", () => undefined);
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
      socket.off("error", refuse);
    }
    return new TtrpcClient((events) => socketTransport(socket, events), metadata);
  }

  /** Whether the connection is there. */
  get connected(): boolean {
    return this.#failure === undefined;
  }

  /** Settles when the connection is not there any more, with the reason; never rejects. */
  get closed(): Promise<SandboxError> {
    return this.#closed.promise;
  }

  /**
   * Calls a method and waits for its answer.
   *
   * @param method From the generated service, such as `Task.method.state`.
   * @param request The request message.
   * @param options Deadline, signal, metadata.
   * @throws SandboxError what the server answered; `Unavailable` when the connection is or gets
   *   lost; `DeadlineExceeded` or `Cancelled` when the caller's patience ends first.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: UnaryMethod<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const { timeoutMs, signal } = options;
    const action = `cannot call ${method.parent.typeName}/${method.name}`;
    if (this.#failure !== undefined) throw this.#failure;
    if (signal?.aborted === true) throw abortError(signal, action);
    const frame = this.#encode(method, request, options);
    const { streamId } = frame;
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const onAbort = (): void => {
      if (signal !== undefined) reject(abortError(signal, action));
    };
    const timer = timeoutMs === undefined ? undefined : setTimeout(
      () => reject(new SandboxError("DeadlineExceeded", `${action}: no answer in ${timeoutMs} ms`)),
      timeoutMs,
    );
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#calls.set(streamId, { resolve, reject });
    try {
      this.#transport.write(frame.bytes);
      return fromBinary(method.output, await promise);
    } catch (error) {
      throw SandboxError.from(error, action);
    } finally {
      this.#calls.delete(streamId);
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    }
  }

  /** Closes the connection; open calls fail with `Unavailable`. */
  close(): void {
    this.#fail("the client was closed");
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Takes a stream id and makes the frame of a request. */
  #encode<I extends DescMessage>(
    method: UnaryMethod<I, DescMessage>,
    request: MessageInitShape<I>,
    options: CallOptions,
  ): { readonly streamId: number; readonly bytes: Uint8Array } {
    const streamId = this.#nextStreamId;
    const full = this.#calls.size >= MAX_OPEN_CALLS ||
      this.#transport.queuedBytes > MAX_QUEUED_BYTES;
    if (full || streamId > MAX_STREAM_ID) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot call ${method.name}: ${this.#calls.size} calls wait for their answers`,
      );
    }
    const timeoutNano = BigInt(Math.ceil(options.timeoutMs ?? 0)) * 1_000_000n;
    const metadata = Object.entries({ ...this.#metadata, ...options.metadata });
    const data = toBinary(
      RequestSchema,
      create(RequestSchema, {
        service: method.parent.typeName,
        method: method.name,
        payload: toBinary(method.input, create(method.input, request)),
        timeoutNano,
        metadata: metadata.map(([key, value]) => ({ key, value })),
      }),
    );
    if (data.length > MAX_DATA_BYTES) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot call ${method.name}: the request of ${data.length} bytes does not fit a ttrpc ` +
          `message of ${MAX_DATA_BYTES}`,
      );
    }
    const header: FrameHeader = { streamId, type: MESSAGE_TYPE.request, flags: 0 };
    const bytes = encodeFrame(header, data);
    this.#nextStreamId += 2;
    return { streamId, bytes };
  }

  #receive(chunk: Uint8Array): void {
    try {
      this.#reader.push(chunk);
    } catch (error) {
      this.#fail(error instanceof Error ? error.message : String(error));
    }
  }

  #answer(frame: Frame): void {
    if (frame.type !== MESSAGE_TYPE.response) return;
    try {
      const { status, payload } = fromBinary(ResponseSchema, frame.data);
      const failed = status !== undefined && status.code !== 0;
      this.#settle(frame.streamId, failed ? errorOf(status) : payload);
    } catch (error) {
      this.#settle(frame.streamId, SandboxError.from(error, "cannot decode ttrpc answer"));
    }
  }

  /** Ends a call; one that nobody waits for any more is ignored. */
  #settle(streamId: number, outcome: Uint8Array | SandboxError): void {
    const call = this.#calls.get(streamId);
    if (outcome instanceof SandboxError) call?.reject(outcome);
    else call?.resolve(outcome);
  }

  #fail(why: string): void {
    if (this.#failure !== undefined) return;
    const failure = new SandboxError("Unavailable", `the ttrpc connection is lost: ${why}`);
    this.#failure = failure;
    this.#reader.stop();
    this.#transport.destroy();
    for (const call of this.#calls.values()) call.reject(failure);
    this.#closed.resolve(failure);
  }
}
