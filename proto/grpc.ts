/**
 * Joins the generated protobuf-es descriptors to grpc-js: service definitions for a server, and a
 * typed client for unary calls. Transport only; what a call means is its caller's business.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import {
  create,
  type DescMessage,
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
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
} from "@grpc/grpc-js";
import {
  abortError,
  type ErrorCode,
  SandboxError,
  STATUS_NUMBER,
} from "../sandboxers/lifecycle/errors.ts";

/** The largest message that containerd sends or takes, in bytes (its `defaults.DefaultMaxRecvMsgSize`). */
export const MESSAGE_BYTES_MAX: number = 16 * 1024 * 1024;

/** Options of {@link GrpcClient.call}. */
export interface CallOptions {
  /** How long the call may take, in milliseconds. Default 20000. */
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
 * A client for unary calls to one gRPC server. A method descriptor says both the service and the
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
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
    return new Promise((resolve, reject) => {
      const cancel = () => call.cancel();
      const call: ClientUnaryCall = this.#client.makeUnaryRequest<MessageShape<I>, MessageShape<O>>(
        `/${method.parent.typeName}/${method.name}`,
        serializer(method.input),
        deserializer(method.output),
        create(method.input, request),
        metadata,
        { deadline: Date.now() + timeoutMs },
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
    const { signal, timeoutMs = 20_000 } = options;
    if (signal?.aborted) throw abortError(signal, `cannot call ${method.name}`);
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(options.metadata ?? {})) metadata.set(key, value);
    const call: ClientReadableStream<MessageShape<O>> = this.#client.makeServerStreamRequest(
      `/${method.parent.typeName}/${method.name}`,
      serializer(method.input),
      deserializer(method.output),
      create(method.input, request),
      metadata,
      { deadline: Date.now() + timeoutMs },
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
  const name = CODE_NAME.get(error.code);
  return new SandboxError(isErrorCode(name) ? name : "Unknown", error.details || error.message, {
    cause: error,
    context: { method },
  });
}
