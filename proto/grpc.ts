/**
 * Joins the generated protobuf-es descriptors to grpc-js: service definitions for a server, and a
 * typed client for calls and streams. Transport only; what a call means is its caller's business.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import {
  create,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
  type StatusObject,
} from "@grpc/grpc-js";
import {
  abortError,
  type ErrorCode,
  SandboxError,
  STATUS_NUMBER,
} from "../sandboxers/lifecycle/errors.ts";

/** The largest message that containerd sends or takes, in bytes (its `defaults.DefaultMaxRecvMsgSize`). */
export const MESSAGE_BYTES_MAX: number = 16 * 1024 * 1024;

/** Options of a call. */
export interface CallOptions {
  /**
   * How long the call may take, in milliseconds; `Infinity` for as long as it takes. Default 20000,
   * and `Infinity` for calls that stream.
   */
  readonly timeoutMs?: number;
  /** Cancels the call. */
  readonly signal?: AbortSignal;
  /** Request headers, such as `containerd-namespace`. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/**
 * A grpc-js service definition made from a generated service descriptor, for `Server.addService`.
 *
 * @param service The generated descriptor, such as `Controller`.
 * @returns One entry for each method, under its name in lower camel case.
 */
export function serviceDefinition(service: DescService): ServiceDefinition {
  const definition: Record<
    string,
    MethodDefinition<MessageShape<DescMessage>, MessageShape<DescMessage>>
  > = {};
  for (const method of service.methods) {
    definition[method.localName] = {
      path: `/${service.typeName}/${method.name}`,
      requestStream: method.methodKind === "client_streaming" ||
        method.methodKind === "bidi_streaming",
      responseStream: method.methodKind === "server_streaming" ||
        method.methodKind === "bidi_streaming",
      requestSerialize: serializer(method.input),
      requestDeserialize: deserializer(method.input),
      responseSerialize: serializer(method.output),
      responseDeserialize: deserializer(method.output),
      originalName: method.localName,
    };
  }
  return definition;
}

/**
 * A call that streams both ways. Reading it to the end, leaving the loop, or disposing of it ends it;
 * it can be read once.
 */
export interface DuplexCall<I, O> extends AsyncIterable<O>, Disposable {
  /**
   * Sends a message.
   *
   * @returns Resolves when the next one can be sent: whoever waits for it buffers nothing.
   * @throws {SandboxError} When the call has ended; reading it says why.
   */
  send(message: I): Promise<void>;
  /** Says that nothing more is sent; the answer goes on. */
  end(): void;
  /** Gives the call up. */
  cancel(): void;
}

/**
 * A client for calls to one gRPC server. A method descriptor says both the service and the
 * types, so one client serves every service at its address:
 * `client.call(RuntimeService.method.version, {})`.
 */
export class GrpcClient implements Disposable {
  readonly #client: Client;

  /**
   * Makes a client; nothing is dialled yet.
   *
   * @param socketPath The absolute path of the server's unix socket.
   * @param options More grpc-js channel options.
   */
  constructor(socketPath: string, options: ChannelOptions = {}) {
    this.#client = new Client(`unix://${socketPath}`, credentials.createInsecure(), {
      // grpc-go refuses the percent-encoded path that grpc-js would send as authority.
      "grpc.default_authority": "localhost",
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
      ...options,
    });
  }

  /**
   * Makes one call.
   *
   * @param method The generated descriptor of the method.
   * @param request Its request; missing fields keep their defaults.
   * @returns The response.
   * @throws {SandboxError} With the code and the message of the server's status, `DeadlineExceeded`
   *   after the time-out, or the reason of the aborted signal.
   */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): Promise<MessageShape<O>> {
    const { signal, timeoutMs = 20_000 } = options;
    if (signal?.aborted) return Promise.reject(abortError(signal, `cannot call ${method.name}`));
    const metadata = metadataOf(options);
    return new Promise((resolve, reject) => {
      const cancel = () => call.cancel();
      const call: ClientUnaryCall = this.#client.makeUnaryRequest<MessageShape<I>, MessageShape<O>>(
        `/${method.parent.typeName}/${method.name}`,
        serializer(method.input),
        deserializer(method.output),
        create(method.input, request),
        metadata,
        deadlineIn(timeoutMs),
        (error, response) => {
          signal?.removeEventListener("abort", cancel);
          if (response !== undefined && error === null) resolve(response);
          else if (signal?.aborted) reject(abortError(signal, `cannot call ${method.name}`));
          else reject(errorOf(error, method.name));
        },
      );
      signal?.addEventListener("abort", cancel, { once: true });
    });
  }

  /**
   * Makes one call whose answer is a stream.
   *
   * @param method The generated descriptor of the method.
   * @param request Its request; missing fields keep their defaults.
   * @returns The messages as they come; leaving the loop early cancels the call.
   * @throws {SandboxError} As {@link GrpcClient.call}.
   */
  async *stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions = {},
  ): AsyncGenerator<MessageShape<O>> {
    const { signal, timeoutMs = Infinity } = options;
    if (signal?.aborted) throw abortError(signal, `cannot call ${method.name}`);
    const metadata = metadataOf(options);
    const call: ClientReadableStream<MessageShape<O>> = this.#client.makeServerStreamRequest(
      `/${method.parent.typeName}/${method.name}`,
      serializer(method.input),
      deserializer(method.output),
      create(method.input, request),
      metadata,
      deadlineIn(timeoutMs),
    );
    const cancel = () => call.cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    try {
      for await (const message of call) yield message;
    } catch (error) {
      if (signal?.aborted) throw abortError(signal, `cannot call ${method.name}`);
      throw isServiceError(error) ? errorOf(error, method.name) : error;
    } finally {
      signal?.removeEventListener("abort", cancel);
      cancel();
    }
  }

  /**
   * Makes one call that streams both ways.
   *
   * @param method The generated descriptor of the method.
   * @returns The call; what is wrong with it is thrown where it is read.
   */
  duplex<I extends DescMessage, O extends DescMessage>(
    method: DescMethodBiDiStreaming<I, O>,
    options: CallOptions = {},
  ): DuplexCall<MessageInitShape<I>, MessageShape<O>> {
    const call = this.#client.makeBidiStreamRequest<MessageShape<I>, MessageShape<O>>(
      `/${method.parent.typeName}/${method.name}`,
      serializer(method.input),
      deserializer(method.output),
      metadataOf(options),
      deadlineIn(options.timeoutMs ?? Infinity),
    );
    return new Duplex(call, method, options.signal);
  }

  /**
   * Waits until the server accepts connections.
   *
   * @param timeoutMs How long to wait, in milliseconds.
   * @throws {SandboxError} `Unavailable` when nobody answers in time.
   */
  ready(timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#client.waitForReady(Date.now() + timeoutMs, (error) => {
        if (error === undefined || error === null) resolve();
        else {
          reject(
            new SandboxError(
              "Unavailable",
              `cannot reach the server: no connection within ${timeoutMs} ms`,
              { cause: error },
            ),
          );
        }
      });
    });
  }

  /** Closes the connection; open calls end with an error. */
  close(): void {
    this.#client.close();
  }

  /** The same as {@link GrpcClient.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** {@link DuplexCall} over a call of grpc-js. */
class Duplex<I extends DescMessage, O extends DescMessage>
  implements DuplexCall<MessageInitShape<I>, MessageShape<O>> {
  readonly #call: ClientDuplexStream<MessageShape<I>, MessageShape<O>>;
  readonly #method: DescMethodBiDiStreaming<I, O>;
  readonly #signal: AbortSignal | undefined;
  /** What the server said at the end; also when the call was cancelled here. */
  #status: StatusObject | undefined;
  /** Those who wait to send; the end of the call leaves them without an answer. */
  readonly #senders = new Set<(error: SandboxError) => void>();

  constructor(
    call: ClientDuplexStream<MessageShape<I>, MessageShape<O>>,
    method: DescMethodBiDiStreaming<I, O>,
    signal: AbortSignal | undefined,
  ) {
    this.#call = call;
    this.#method = method;
    this.#signal = signal;
    const cancel = () => call.cancel();
    // The status says the same, also to whoever begins to read after it has come.
    call.on("error", () => undefined);
    call.once("status", (status) => {
      this.#status = status;
      signal?.removeEventListener("abort", cancel);
      for (const fail of this.#senders) fail(this.#ended());
    });
    if (signal?.aborted) cancel();
    else signal?.addEventListener("abort", cancel, { once: true });
  }

  send(message: MessageInitShape<I>): Promise<void> {
    if (this.#status !== undefined) return Promise.reject(this.#ended());
    return new Promise((resolve, reject) => {
      const fail = (error: SandboxError) => {
        this.#senders.delete(fail);
        reject(error);
      };
      this.#senders.add(fail);
      this.#call.write(create(this.#method.input, message), (error?: Error | null) => {
        if (error !== undefined && error !== null) fail(this.#ended(error));
        this.#senders.delete(fail);
        resolve();
      });
    });
  }

  end(): void {
    this.#call.end();
  }

  cancel(): void {
    this.#call.cancel();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<MessageShape<O>> {
    try {
      for await (const message of this.#call) yield message;
    } catch (error) {
      throw this.#failure() ?? SandboxError.from(error, `cannot call ${this.#method.name}`);
    } finally {
      this.cancel();
    }
    const failure = this.#failure();
    if (failure !== undefined) throw failure;
  }

  /** Why the call has failed; undefined where it has not. */
  #failure(): SandboxError | undefined {
    const status = this.#status;
    if (status === undefined || status.code === 0) return undefined;
    if (this.#signal?.aborted) return abortError(this.#signal, `cannot call ${this.#method.name}`);
    return statusError(status, this.#method.name);
  }

  #ended(cause?: Error): SandboxError {
    const failure = this.#failure();
    if (failure !== undefined) return failure;
    const message = `cannot send to ${this.#method.name}: the call has ended`;
    return new SandboxError("Cancelled", message, cause === undefined ? {} : { cause });
  }

  [Symbol.dispose](): void {
    this.cancel();
  }
}

function metadataOf(options: CallOptions): Metadata {
  const metadata = new Metadata();
  for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
  return metadata;
}

/** When a call has to be answered, as grpc-js wants it. */
function deadlineIn(timeoutMs: number): { readonly deadline?: number } {
  return timeoutMs === Infinity ? {} : { deadline: Date.now() + timeoutMs };
}

/** Message to bytes, in the Buffer that grpc-js wants; the bytes are not copied. */
function serializer<D extends DescMessage>(schema: D): (message: MessageShape<D>) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, message);
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

/** Bytes to message; grpc-js turns what it throws into an INTERNAL status. */
function deserializer<D extends DescMessage>(schema: D): (bytes: Buffer) => MessageShape<D> {
  return (bytes) => fromBinary(schema, bytes);
}

/** The name of each status number. */
const CODE_NAME: ReadonlyMap<number, string> = new Map(
  Object.entries(STATUS_NUMBER).map(([name, number]) => [number, name]),
);

/** Whether a status name is one of ours; all names in {@link CODE_NAME} are. */
function isErrorCode(name: string | undefined): name is ErrorCode {
  return name !== undefined && name in STATUS_NUMBER;
}

/** Whether an error is a server's status. */
function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "details" in error;
}

/** A failed call as our own error. */
function errorOf(error: ServiceError | null, method: string): SandboxError {
  if (error === null) return new SandboxError("Internal", `cannot call ${method}: empty response`);
  return statusError(error, method, error);
}

/** How grpc-js says that there is no connection, with the reason. */
const UNREACHED = /^No connection established\. Last error: (?:Error: )?(.*?)\.? Resolution note:/;

/** A status as our own error. */
function statusError(
  { code, details }: { readonly code: number; readonly details: string },
  method: string,
  cause?: Error,
): SandboxError {
  const name = CODE_NAME.get(code);
  const unreached = UNREACHED.exec(details)?.[1];
  const message = unreached === undefined
    ? details || cause?.message || `cannot call ${method}: status ${code}`
    : `cannot reach the server: ${unreached}`;
  const context = { method };
  return new SandboxError(isErrorCode(name) ? name : "Unknown", message, {
    context,
    ...(cause === undefined ? {} : { cause }),
  });
}
