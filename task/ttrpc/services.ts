/**
 * Services and their methods: typed handlers derived from the protobuf-es description of a service,
 * and the table in which the server finds them by name.
 *
 * @module
 */

import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type Message,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import type { Call } from "./call.ts";

/** A value, now or later. A handler that answers at once spares the caller a turn of the loop. */
export type Eventually<T> = T | Promise<T>;

/** Handles one unary method. It throws, or rejects with, a SandboxError. */
export type UnaryHandler<I extends DescMessage, O extends DescMessage> = (
  request: MessageShape<I>,
  call: Call,
) => Eventually<MessageInitShape<O>>;

/** A service as its generated description types it (`GenService`, or a plain `DescService`). */
export type ServiceDescription = Omit<DescService, "method"> & {
  readonly method: Record<string, Pick<DescMethod, "input" | "output" | "methodKind">>;
};

/** One handler for each unary method of a service. */
export type ServiceHandlers<S extends ServiceDescription> = {
  readonly [K in keyof S["method"]]: S["method"][K]["methodKind"] extends "unary"
    ? UnaryHandler<S["method"][K]["input"], S["method"][K]["output"]>
    : never;
};

/** A method that can be called with bytes: decodes, handles, encodes. */
export type BoundMethod = (payload: Uint8Array, call: Call) => Eventually<Uint8Array>;

/**
 * Stands around every handler of a service: it calls `run`, once, and gives back what that gives.
 */
export type Around = <T>(request: Message, call: Call, run: () => Eventually<T>) => Eventually<T>;

/** Any handler, once its types have served their purpose. */
type ErasedHandler = (request: Message, call: Call) => Eventually<Message>;

/** The services of one server. */
export class ServiceTable {
  readonly #methods = new Map<string, BoundMethod>();
  readonly #services = new Set<string>();

  /**
   * Adds a service.
   *
   * @param service The generated description.
   * @param handlers One per method.
   * @param around Stands around each of them.
   * @throws SandboxError `AlreadyExists` when a service of that name is there.
   */
  add<S extends ServiceDescription>(
    service: S,
    handlers: ServiceHandlers<S>,
    around?: Around,
  ): void {
    const { typeName } = service;
    if (this.#services.has(typeName)) {
      throw new SandboxError(
        "AlreadyExists",
        `cannot add service "${typeName}": it is served already`,
      );
    }
    this.#services.add(typeName);
    for (const method of service.methods) {
      const handler: unknown = Reflect.get(handlers, method.localName);
      if (!isHandler(handler)) continue;
      const observed: ErasedHandler = around === undefined
        ? handler
        : (request, call) => around(request, call, () => handler(request, call));
      this.#methods.set(`${typeName}/${method.name}`, bind(method, observed));
    }
  }

  /**
   * Finds a method.
   *
   * @param service Full name of the service.
   * @param method Name of the method.
   * @throws SandboxError `Unimplemented`
   */
  find(service: string, method: string): BoundMethod {
    const bound = this.#methods.get(`${service}/${method}`);
    if (bound !== undefined) return bound;
    const what = this.#services.has(service)
      ? `method "${method}" of service "${service}"`
      : `service "${service}"`;
    throw new SandboxError("Unimplemented", `cannot call ${what}: it is not served here`);
  }
}

/**
 * Narrows what was found under a method's name. Which messages it takes and gives is held by the
 * type of {@link ServiceTable.add}; at run time only the kind can be seen.
 */
function isHandler(value: unknown): value is ErasedHandler {
  return typeof value === "function";
}

/** Puts decoding before and encoding behind a handler. */
function bind(
  method: DescMethodUnary | DescMethod,
  handler: ErasedHandler,
): BoundMethod {
  const { input, output } = method;
  const encode = (answer: Message): Uint8Array => toBinary(output, create(output, answer));
  return (payload, call) => {
    const answer = handler(decode(input, payload, call.method), call);
    return answer instanceof Promise ? answer.then(encode) : encode(answer);
  };
}

function decode(input: DescMessage, payload: Uint8Array, method: string): Message {
  try {
    return fromBinary(input, payload);
  } catch (error) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot decode the request of ${method}: the payload of ${payload.length} bytes is not a ` +
        `${input.typeName}: ${error instanceof Error ? error.message : String(error)}`,
      { cause: error },
    );
  }
}
