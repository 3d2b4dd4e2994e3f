/**
 * Serves a gRPC service by plain handlers: functions for unary calls, async generators for streams.
 * Streams wait for their peer, so a slow reader costs one message; they end at once when the server
 * is about to go; and every error becomes a status in one place.
 *
 * @module
 */

import type { Buffer } from "node:buffer";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  isMessage,
  type Message,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type {
  ServerDuplexStream,
  ServerWritableStream,
  ServiceDefinition,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { abortError, SandboxError, STATUS_NUMBER } from "../sandboxers/lifecycle/errors.ts";
import { serviceDefinition } from "./grpc.ts";

/** The largest message that a caller may stream, in bytes. */
export const STREAMED_BYTES_MAX: number = 1024 * 1024;

/** What a handler knows of a call besides its request. */
export interface ServiceCall {
  /** Fires when the caller gives up or the server is about to go. */
  readonly signal: AbortSignal;
}

/**
 * The handler of a method. One that streams gives messages as they come: the next is asked for when
 * the peer can take it, and when the call ends early the iterator is returned, so that `finally` runs.
 * One that gets a stream reads it at its own pace; the stream ends when the caller has said all, and
 * throws when the call is cut off. What is thrown becomes the call's status.
 */
export type ServiceHandler<M> = M extends DescMethodUnary<infer I, infer O>
  ? (request: MessageShape<I>, call: ServiceCall) => Promise<MessageInitShape<O>>
  : M extends DescMethodServerStreaming<infer I, infer O>
    ? (request: MessageShape<I>, call: ServiceCall) => AsyncIterable<MessageInitShape<O>>
  : M extends DescMethodBiDiStreaming<infer I, infer O> ? (
      requests: AsyncIterable<MessageShape<I>>,
      call: ServiceCall,
    ) => AsyncIterable<MessageInitShape<O>>
  : never;

/** One handler for each method of a service. */
export type ServiceHandlers<S extends DescService> = {
  readonly [M in keyof S["method"]]: ServiceHandler<S["method"][M]>;
};

/** What is asked of a call of grpc-js to know when it is given up. */
export interface CancellableCall {
  /** Whether it was given up already. */
  readonly cancelled: boolean;
  /** When it has to be answered. */
  getDeadline(): Date | number;
  /** Hears of it when it is given up. */
  once(event: "cancelled", listener: () => void): unknown;
  /** Hears no more. */
  off(event: "cancelled", listener: () => void): unknown;
}

/** An open call: its signal, and disposing of it says that it is answered. */
export type OpenCall = Disposable & { readonly signal: AbortSignal };

/** How calls of a service are run. */
export interface ServiceOptions {
  /**
   * Opens a call.
   *
   * @throws {SandboxError} Where it cannot be taken on.
   */
  readonly open: (call: CancellableCall, method: DescMethod) => OpenCall;
  /** Hears of every call that has ended; of its error unless it went well. */
  readonly ended: (ended: EndedCall) => void;
}

/** A call that has ended. */
export interface EndedCall {
  /** The method. */
  readonly method: DescMethod;
  /** The request; missing where the caller streams. */
  readonly request?: Message;
  /** How long it took, in milliseconds. */
  readonly ms: number;
  /** Why it failed; missing where it did not. */
  readonly error?: SandboxError;
  /** Whether the error was thrown as one of ours, and not `Internal`. */
  readonly planned?: boolean;
}

/**
 * The definition of a service for `Server.addService` beside {@link serviceImplementation}. On the wire
 * a unary answer is a stream of one message, and served as one: then a call is open until its peer has
 * taken the answer, and answers that nobody reads can be counted.
 *
 * @param service The generated descriptor.
 */
export function servedDefinition(service: DescService): ServiceDefinition {
  return Object.fromEntries(
    Object.entries(serviceDefinition(service)).map(([name, method]) => [
      name,
      method.requestStream
        ? {
          ...method,
          requestDeserialize: (bytes: Buffer) => method.requestDeserialize(small(bytes)),
        }
        : { ...method, responseStream: true },
    ]),
  );
}

/** Some messages of a stream wait in memory for their reader: none of them may be large. */
function small(bytes: Buffer): Buffer {
  if (bytes.length <= STREAMED_BYTES_MAX) return bytes;
  throw new SandboxError("ResourceExhausted", `a message of ${bytes.length} bytes in a stream`);
}

/**
 * The implementation of a service for `Server.addService`.
 *
 * @param service The generated descriptor; its methods are unary or stream answers.
 * @param handlers What the methods do.
 * @param options See {@link ServiceOptions}.
 */
export function serviceImplementation<S extends DescService>(
  service: S,
  handlers: ServiceHandlers<S>,
  options: ServiceOptions,
): UntypedServiceImplementation {
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    const handler: unknown = Reflect.get(handlers, method.localName);
    if (typeof handler !== "function") throw new TypeError(`no handler for ${method.name}`);
    const handle = (input: unknown, call: ServiceCall): unknown =>
      Reflect.apply(handler, handlers, [input, call]);
    implementation[method.localName] = served(method, handle, options);
  }
  return implementation;
}

/** A handler whose types are known to {@link ServiceHandlers} only. */
type AnyHandler = (input: unknown, call: ServiceCall) => unknown;

function served(method: DescMethod, handle: AnyHandler, options: ServiceOptions) {
  switch (method.methodKind) {
    case "unary":
      return (call: ServerWritableStream<unknown, unknown>) => {
        const request = requestOf(method, call.request);
        serveStream(
          call,
          run(method, call, request, options, async ({ signal }) => {
            await send(call, method.output, once(() => handle(request, { signal })), signal);
          }),
        );
      };
    case "server_streaming":
      return (call: ServerWritableStream<unknown, unknown>) => {
        const request = requestOf(method, call.request);
        serveStream(
          call,
          run(method, call, request, options, async ({ signal }) => {
            await send(call, method.output, handle(request, { signal }), signal);
          }),
        );
      };
    case "bidi_streaming":
      return (call: ServerDuplexStream<unknown, unknown>) => {
        serveStream(
          call,
          run(method, call, undefined, options, async ({ signal }) => {
            const requests = received(call, signal);
            await send(call, method.output, handle(requests, { signal }), signal);
          }),
        );
      };
    default:
      throw new TypeError(`cannot serve ${method.name}: it streams requests only`);
  }
}

/** A stream of one answer. */
async function* once(answer: () => unknown): AsyncGenerator<unknown> {
  yield await answer();
}

/** The half of a call that answers. */
interface Answering {
  write(message: unknown, done: (error?: Error | null) => void): unknown;
  end(): unknown;
  emit(event: "error", status: ReturnType<typeof statusOf>): unknown;
}

/** Ends a stream when its work is done, with its status. */
function serveStream(call: Answering, work: Promise<void>): void {
  work.then(
    () => call.end(),
    (error: SandboxError) => void call.emit("error", statusOf(error)),
  );
}

function requestOf(method: DescMethod, request: unknown): Message {
  if (isMessage(request, method.input)) return request;
  throw new TypeError(`not a ${method.input.name}`);
}

/** Runs one call; what it rejects with is always a SandboxError. */
async function run<T>(
  method: DescMethod,
  call: CancellableCall,
  request: Message | undefined,
  { open, ended }: ServiceOptions,
  work: (opened: OpenCall) => Promise<T>,
): Promise<T> {
  const started = performance.now();
  const facts = () => ({
    method,
    ms: performance.now() - started,
    ...(request === undefined ? {} : { request }),
  });
  try {
    using opened = open(call, method);
    const result = await work(opened);
    ended(facts());
    return result;
  } catch (thrown) {
    const error = SandboxError.from(thrown, `cannot do ${method.name}`);
    const planned = thrown instanceof SandboxError && error.code !== "Internal";
    ended({ ...facts(), error, planned });
    throw error;
  }
}

/** Sends what a handler gives, each when the peer has taken the one before. */
async function send(
  call: Answering,
  schema: DescMessage,
  responses: unknown,
  signal: AbortSignal,
): Promise<void> {
  const iterator = iteratorOf(responses);
  using patience = new Patience(signal);
  try {
    for (;;) {
      const { done, value } = await patience.waitFor(iterator.next());
      if (done === true) return;
      const message = isMessage(value, schema) ? value : create(schema, asInit(value));
      await patience.waitFor(written(call, message));
    }
  } finally {
    // Not waited for: what the handler still does must not hold up the status.
    iterator.return?.()?.then(undefined, () => undefined);
  }
}

/** Resolves when the peer has taken a message, so far as its window says; never when it is gone. */
function written(call: Answering, message: Message): Promise<void> {
  return new Promise((resolve, reject) => {
    call.write(message, (error?: Error | null) => {
      if (error === undefined || error === null) resolve();
      else reject(SandboxError.from(error, "cannot send", "Unavailable"));
    });
  });
}

/** What the caller sends, until it has said all. */
async function* received(
  call: ServerDuplexStream<unknown, unknown>,
  signal: AbortSignal,
): AsyncGenerator<unknown> {
  try {
    for await (const message of call.iterator({ destroyOnReturn: false })) yield message;
  } catch (error) {
    if (signal.aborted) throw abortError(signal, "cannot read the call");
    throw SandboxError.from(error, "cannot read the call", "Cancelled");
  }
  if (signal.aborted) throw abortError(signal, "cannot read the call");
}

/**
 * Waits for one thing after the other, each until the signal fires. `Promise.race` with a promise that
 * lives as long as a stream would keep all that was ever waited for.
 */
class Patience implements Disposable {
  readonly #signal: AbortSignal;
  readonly #onAbort = () => this.#giveUp?.(abortError(this.#signal, "cannot go on"));
  #giveUp: ((error: SandboxError) => void) | undefined;

  constructor(signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  waitFor<T>(what: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#giveUp = reject;
      what.then(resolve, reject);
      if (this.#signal.aborted) this.#onAbort();
    });
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener("abort", this.#onAbort);
  }
}

/** {@link ServiceHandlers} says that a handler gives an iterable; at run time it can only be looked for. */
function iteratorOf(value: unknown): AsyncIterator<unknown> {
  if (typeof value === "object" && value !== null && Symbol.asyncIterator in value) {
    const open = value[Symbol.asyncIterator];
    if (typeof open === "function") return open.call(value);
  }
  throw new TypeError("a handler of a stream gave no async iterable");
}

/** {@link ServiceHandlers} says that it fits the schema. */
function asInit(value: unknown): Record<string, unknown> {
  if (typeof value === "object" && value !== null) return { ...value };
  throw new TypeError("a handler gave no message");
}

/** Longest status message, in characters: it travels in an HTTP/2 header. */
const DETAILS_LENGTH_MAX = 2048;

/** An error as a gRPC status. */
export function statusOf(error: SandboxError): { code: number; details: string } {
  // A lone surrogate makes grpc-js throw while it percent-encodes the message.
  const details = error.message.slice(0, DETAILS_LENGTH_MAX).toWellFormed();
  return { code: STATUS_NUMBER[error.code], details };
}
