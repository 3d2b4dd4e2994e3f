/**
 * Joins typed handlers to grpc-js: every call gets the caller's namespace and a signal, and every
 * error becomes a status in one place.
 *
 * @module
 */

import {
  create,
  type DescMethod,
  type DescMethodUnary,
  type DescService,
  isMessage,
  type Message,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type {
  Metadata,
  sendUnaryData,
  ServerUnaryCall,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { SandboxError, STATUS_NUMBER } from "../lifecycle/errors.ts";
import type { Log, LogFields } from "../log.ts";
import { type RpcCall, type RpcObserver, shortName } from "../telemetry/rpc_call.ts";
import type { OpenCalls } from "./calls.ts";

/** What a handler knows of a call besides its request. */
export interface Call {
  /** The caller's containerd namespace. */
  readonly namespace: string;
  /** See {@link OpenCalls.open}. */
  readonly signal: AbortSignal;
}

/** One handler for each method of a service. */
export type UnaryHandlers<S extends DescService> = {
  readonly [M in keyof S["method"]]: S["method"][M] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, call: Call) => Promise<MessageInitShape<O>>
    : never;
};

/** A handler of no method in particular. */
type AnyHandler = (request: Message, call: Call) => Promise<Record<string, unknown>>;

/** What calls are run with. */
export interface UnaryOptions {
  /** Where open calls are kept. */
  readonly calls: OpenCalls;
  /** Gets every call at `debug`, and at `error` those that failed in a way nobody planned for. */
  readonly log: Log;
  /** What the log says of a request. */
  readonly describe: (request: Message) => LogFields;
  /** Hears of every call; nobody unless given. */
  readonly observer?: RpcObserver | undefined;
}

/**
 * The implementation of a service for `Server.addService`.
 *
 * @param service The generated descriptor; all its methods are unary.
 * @param handlers What the methods do.
 * @param options See {@link UnaryOptions}.
 */
export function unaryImplementation<S extends DescService>(
  service: S,
  handlers: UnaryHandlers<S>,
  options: UnaryOptions,
): UntypedServiceImplementation {
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    const handler: unknown = Reflect.get(handlers, method.localName);
    if (!isHandler(handler)) throw new TypeError(`no handler for ${method.name}`);
    implementation[method.localName] = (
      call: ServerUnaryCall<unknown, unknown>,
      respond: sendUnaryData<unknown>,
    ) => {
      const { request } = call;
      if (!isMessage(request, method.input)) throw new TypeError(`not a ${method.input.name}`);
      const handle = async (context: Call) =>
        create(method.output, await handler.call(handlers, request, context));
      const answer = () =>
        run(call, handle, { method: method.name, ...options.describe(request) }, options);
      const { observer } = options;
      const answered = observer === undefined
        ? answer()
        : observer.rpc(rpcOf(method, request, call.metadata), answer);
      Promise.resolve(answered).then(
        (response) => respond(null, response),
        (error: SandboxError) => respond(statusOf(error)),
      );
    };
  }
  return implementation;
}

/** A call as those see it who want to hear of it. */
function rpcOf(method: DescMethod, request: Message, metadata: Metadata): RpcCall {
  return {
    service: shortName(method.parent),
    method: method.name,
    sandboxId: textOf(request, "sandboxId"),
    header: (name) => textOf({ value: metadata.get(name)[0] }, "value"),
  };
}

function textOf(from: object, name: string): string | undefined {
  const value: unknown = Reflect.get(from, name);
  return typeof value === "string" ? value : undefined;
}

/** {@link UnaryHandlers} holds the types of handlers; at run time only the kind can be seen. */
function isHandler(value: unknown): value is AnyHandler {
  return typeof value === "function";
}

/** Runs one handler; what it rejects with is always a SandboxError. */
async function run(
  call: ServerUnaryCall<unknown, unknown>,
  handle: (context: Call) => Promise<unknown>,
  facts: LogFields & { readonly method: string },
  { calls, log }: UnaryOptions,
): Promise<unknown> {
  const started = performance.now();
  const fields = () => ({ ...facts, ms: Math.round(performance.now() - started) });
  using open = calls.open(call);
  try {
    const response = await handle({
      namespace: namespaceOf(call.metadata),
      signal: open.signal,
    });
    log.debug("call", fields());
    return response;
  } catch (thrown) {
    const error = SandboxError.from(thrown, `cannot do ${facts.method}`);
    const planned = thrown instanceof SandboxError && error.code !== "Internal";
    log[planned ? "debug" : "error"]("call failed", { ...fields(), error });
    throw error;
  }
}

/** containerd's rule for namespaces (pkg/identifiers): at most 76 characters. */
const NAMESPACE = /^(?=.{1,76}$)[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/;

/** The header in which containerd and its clients send their namespace. */
const NAMESPACE_HEADER = "containerd-namespace";

function namespaceOf(metadata: Metadata): string {
  const [value] = metadata.get(NAMESPACE_HEADER);
  if (value === undefined || value === "") {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot serve a call: namespace is required: expected the header "${NAMESPACE_HEADER}"`,
    );
  }
  if (typeof value === "string" && NAMESPACE.test(value)) return value;
  throw new SandboxError(
    "InvalidArgument",
    `invalid namespace ${JSON.stringify(String(value).slice(0, 100))}: expected 1 to 76 letters ` +
      `and digits, with single ".", "_" or "-" between them`,
  );
}

/** Longest status message, in characters: it travels in an HTTP/2 header. */
const DETAILS_LENGTH_MAX = 2048;

/** An error as a gRPC status. */
function statusOf(error: SandboxError): { code: number; details: string } {
  // A lone surrogate makes grpc-js throw while it percent-encodes the message.
  const details = error.message.slice(0, DETAILS_LENGTH_MAX).toWellFormed();
  return { code: STATUS_NUMBER[error.code], details };
}
