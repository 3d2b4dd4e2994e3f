/**
 * Traces: spans for calls, operations, their phases and a container's first output, made with
 * OpenTelemetry's API and sent by Deno's own exporter. Loaded only where traces are switched on.
 *
 * What makes a sandbox or a container run is one trace: the first call about a sandbox begins it, and
 * later ones join it. Everything else about the sandbox has traces of its own that are linked to that
 * one. A caller that sends a trace of its own (W3C's `traceparent`) gets its spans in that.
 *
 * @module
 */

import {
  type Attributes,
  type Context,
  context,
  createContextKey,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Tracer,
} from "@opentelemetry/api";
import config from "../../deno.json" with { type: "json" };
import { SandboxError } from "../lifecycle/errors.ts";
import type { Operation, OperationName } from "../lifecycle/observer.ts";
import type { LogFields } from "../log.ts";
import { type Eventually, isWaiting, type RpcCall } from "./rpc_call.ts";
import type { FirstOutput } from "./first_output.ts";
import type { Tracing } from "./telemetry.ts";

/** Operations that belong to the trace of their sandbox; others have one of their own. */
const JOINING: ReadonlySet<OperationName> = new Set<OperationName>([
  "sandbox_create",
  "sandbox_start",
  "container_create",
  "container_start",
]);

/** Methods without spans: they wait for long, or only look. */
const QUIET: ReadonlySet<string> = new Set([
  ...["Controller/Status", "Controller/Platform", "Controller/Metrics"],
  ...["Task/State", "Task/Pids", "Task/Stats", "Task/Connect", "Task/Shutdown"],
  ...["Management/Info", "Management/List", "Management/Get"],
]);

/** Most sandboxes whose trace is remembered; then the one that began longest ago is forgotten. */
const SANDBOXES_MAX = 10_000;

/** Most containers whose first output is waited for. */
const STARTS_MAX = 1_000;

/** A call that is being answered. Its span is made when it is known which trace it belongs to. */
interface OpenRpc {
  readonly call: RpcCall;
  readonly startTime: number;
  span: Span | undefined;
}

const RPC = createContextKey("quasaur rpc");

/** A W3C trace context: version, trace id, span id, flags. */
const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** Makes traces. */
export class OtelTracing implements Tracing {
  readonly #kind: string;
  readonly #tracer: Tracer;
  /** Where the trace of each sandbox began. */
  readonly #sandboxes = new Map<string, SpanContext>();
  /** The spans in which containers were started, until their first output. */
  readonly #starts = new Map<string, Context>();

  /**
   * Begins to make spans.
   *
   * @param kind The kind of sandboxer.
   * @param tracer Makes them (default: that of Deno's exporter).
   */
  constructor(kind: string, tracer: Tracer = trace.getTracer("quasaur", config.version)) {
    this.#kind = kind;
    this.#tracer = tracer;
  }

  /** See {@link Tracing.logFields}. */
  logFields(): LogFields | undefined {
    const span = trace.getActiveSpan();
    if (span === undefined) return undefined;
    const { traceId, spanId } = span.spanContext();
    return { trace: traceId, span: spanId };
  }

  /** Forgets the trace of a sandbox. */
  forget(sandboxId: string): void {
    this.#sandboxes.delete(sandboxId);
  }

  /** See {@link Tracing.rpc}. */
  rpc<T>(call: RpcCall, run: () => Eventually<T>): Eventually<T> {
    if (isWaiting(call) || QUIET.has(`${call.service}/${call.method}`)) return run();
    const open: OpenRpc = { call, startTime: Date.now(), span: undefined };
    const parent = ROOT_CONTEXT.setValue(RPC, open);
    let answer: Eventually<T>;
    try {
      answer = context.with(parent, run);
    } catch (error) {
      this.#endRpc(open, error);
      throw error;
    }
    if (!(answer instanceof Promise)) {
      this.#endRpc(open, undefined);
      return answer;
    }
    return answer.then((value) => {
      this.#endRpc(open, undefined);
      return value;
    }, (error: unknown) => {
      this.#endRpc(open, error);
      throw error;
    });
  }

  #endRpc(open: OpenRpc, error: unknown): void {
    const { sandboxId } = open.call;
    open.span ??= this.#rpcSpan(open, sandboxId, false);
    end(open.span, error);
  }

  /** The span of a call, in its caller's trace, its sandbox's or one of its own. */
  #rpcSpan({ call, startTime }: OpenRpc, sandboxId: string | undefined, joins: boolean): Span {
    const { service, method, containerId, execId } = call;
    const attributes = {
      "rpc.system": service === "Task" ? "ttrpc" : "grpc",
      "rpc.service": service,
      "rpc.method": method,
      ...this.#attributes({ sandboxId, containerId, execId }),
    };
    const name = `${service}/${method}`;
    const options = { kind: SpanKind.SERVER, attributes, startTime };
    return this.#span(name, options, {
      caller: callerContext(call.header("traceparent")),
      sandboxId,
      joins,
    });
  }

  /** A span that has no parent in this process. */
  #span(
    name: string,
    options: SpanOptions,
    { caller, sandboxId, joins }: {
      readonly caller?: SpanContext | undefined;
      readonly sandboxId: string | undefined;
      readonly joins: boolean;
    },
  ): Span {
    const own = sandboxId === undefined ? undefined : this.#sandboxes.get(sandboxId);
    const parent = caller ?? (joins ? own : undefined);
    const links: Link[] = own === undefined || own.traceId === parent?.traceId
      ? []
      : [{ context: own, attributes: { "link.reason": "sandbox" } }];
    const within = parent === undefined ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent);
    const span = this.#tracer.startSpan(name, { ...options, links }, within);
    if (own === undefined && sandboxId !== undefined && joins) {
      remember(this.#sandboxes, sandboxId, span.spanContext(), SANDBOXES_MAX);
    }
    return span;
  }

  /** See {@link Tracing.operation}. */
  async operation<T>(operation: Operation, run: () => Promise<T>): Promise<T> {
    const span = this.#operationSpan(operation);
    const within = trace.setSpan(context.active(), span);
    const { name, containerId } = operation;
    if (containerId !== undefined) {
      if (name === "container_start") remember(this.#starts, containerId, within, STARTS_MAX);
      else if (name === "container_delete") this.#starts.delete(containerId);
    }
    try {
      const value = await context.with(within, run);
      end(span, undefined);
      return value;
    } catch (error) {
      end(span, error);
      throw error;
    } finally {
      if (name === "sandbox_delete") this.forget(operation.sandboxId);
    }
  }

  #operationSpan(operation: Operation): Span {
    const { name, sandboxId } = operation;
    const attributes = this.#attributes(operation);
    const joins = JOINING.has(name);
    const open = context.active().getValue(RPC);
    if (isOpenRpc(open)) {
      open.span ??= this.#rpcSpan(open, sandboxId, joins);
      const parent = trace.setSpan(ROOT_CONTEXT, trace.getActiveSpan() ?? open.span);
      return this.#tracer.startSpan(name, { attributes }, parent);
    }
    if (trace.getActiveSpan() !== undefined) {
      return this.#tracer.startSpan(name, { attributes }, context.active());
    }
    return this.#span(name, { attributes }, { sandboxId, joins });
  }

  /** See {@link Tracing.phase}. */
  phase(name: string, since: number, until: number): void {
    if (trace.getActiveSpan() === undefined) return;
    this.#tracer.startSpan(name, { startTime: since }, context.active()).end(until);
  }

  /** See {@link Tracing.firstOutput}. */
  firstOutput({ sandboxId, containerId, startedAtMs, at }: FirstOutput): void {
    const within = this.#starts.get(containerId);
    this.#starts.delete(containerId);
    if (within === undefined) return;
    const attributes = this.#attributes({ sandboxId, containerId });
    const options = { attributes, startTime: startedAtMs };
    this.#tracer.startSpan("first_output", options, within).end(Math.max(at, startedAtMs));
  }

  #attributes(
    { sandboxId, containerId, execId }: {
      readonly sandboxId?: string | undefined;
      readonly containerId?: string | undefined;
      readonly execId?: string | undefined;
    },
  ): Attributes {
    return {
      "quasaur.kind": this.#kind,
      ...(sandboxId ? { "quasaur.sandbox.id": sandboxId } : {}),
      ...(containerId ? { "container.id": containerId } : {}),
      ...(execId ? { "quasaur.exec.id": execId } : {}),
    };
  }
}

/** Adds to a map that stays bounded: what was added first is forgotten. */
function remember<V>(map: Map<string, V>, key: string, value: V, sizeMax: number): void {
  const [oldest] = map.keys();
  if (map.size >= sizeMax && oldest !== undefined) map.delete(oldest);
  map.set(key, value);
}

function end(span: Span, error: unknown): void {
  if (error !== undefined) {
    const { code, message } = SandboxError.from(error);
    span.setAttribute("error.type", code);
    span.setStatus({ code: SpanStatusCode.ERROR, message });
  }
  span.end();
}

function isOpenRpc(value: unknown): value is OpenRpc {
  return typeof value === "object" && value !== null && "call" in value && "startTime" in value;
}

/**
 * The trace of a caller.
 *
 * @param header W3C's `traceparent`; undefined or malformed for none.
 */
export function callerContext(header: string | undefined): SpanContext | undefined {
  const [, traceId = "", spanId = "", flags = ""] = TRACEPARENT.exec(header ?? "") ?? [];
  if (/^0*$/.test(traceId) || /^0*$/.test(spanId) || header?.startsWith("ff") === true) {
    return undefined;
  }
  const sampled = (Number.parseInt(flags, 16) & TraceFlags.SAMPLED) !== 0;
  return {
    traceId,
    spanId,
    traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
    isRemote: true,
  };
}
