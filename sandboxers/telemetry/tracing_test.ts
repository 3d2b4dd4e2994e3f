import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import {
  type Context,
  context,
  type ContextManager,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  type SpanOptions,
  type SpanStatus,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Tracer,
} from "@opentelemetry/api";
import { SandboxError } from "../lifecycle/errors.ts";
import { callerContext, OtelTracing } from "./tracing.ts";

/** A context manager as Deno has one while its exporter is on. */
class TestContexts implements ContextManager {
  readonly #storage = new AsyncLocalStorage<Context>();
  active = () => this.#storage.getStore() ?? ROOT_CONTEXT;
  with: ContextManager["with"] = (active, run, self, ...args) =>
    this.#storage.run(active, () => Reflect.apply(run, self, args));
  bind: ContextManager["bind"] = (_context, target) => target;
  enable = () => this;
  disable = () => this;
}

/** A span that remembers what it was told. */
class TestSpan implements Span {
  readonly attributes: Record<string, unknown>;
  status: SpanStatus = { code: SpanStatusCode.UNSET };
  ended = 0;
  constructor(
    readonly name: string,
    readonly own: SpanContext,
    readonly parentSpanId: string | undefined,
    readonly options: SpanOptions,
  ) {
    this.attributes = { ...options.attributes };
  }
  spanContext = () => this.own;
  setAttribute(key: string, value: unknown): this {
    this.attributes[key] = value;
    return this;
  }
  setStatus(status: SpanStatus): this {
    this.status = status;
    return this;
  }
  end(): void {
    this.ended++;
  }
  setAttributes = () => this;
  addEvent = () => this;
  addLink = () => this;
  addLinks = () => this;
  updateName = () => this;
  isRecording = () => true;
  recordException = () => undefined;
}

/** Makes {@link TestSpan}s, with ids that count up. */
class TestTracer {
  readonly spans: TestSpan[] = [];
  startSpan(name: string, options: SpanOptions = {}, within: Context = context.active()): Span {
    const parent = trace.getSpanContext(within);
    const id = String(this.spans.length + 1);
    const own = {
      traceId: parent?.traceId ?? id.padStart(32, "a"),
      spanId: id.padStart(16, "b"),
      traceFlags: TraceFlags.SAMPLED,
    };
    const span = new TestSpan(name, own, parent?.spanId, options);
    this.spans.push(span);
    return span;
  }
  startActiveSpan: Tracer["startActiveSpan"] = () => {
    throw new Error("not used");
  };
  /** The one span of a name. */
  one(name: string): TestSpan {
    const found = this.spans.filter((span) => span.name === name);
    const [first] = found;
    assert.ok(first !== undefined && found.length === 1, `${found.length} spans ${name}`);
    return first;
  }
}

/** A caller's trace and span. */
const CALLER = { traceId: "c".repeat(32), spanId: "d".repeat(16) };
const TRACEPARENT = `00-${CALLER.traceId}-${CALLER.spanId}-01`;

/** Runs a test with traces on; Deno's own API for them is off in tests. */
async function traced(test: (tracing: OtelTracing, tracer: TestTracer) => Promise<void>) {
  context.setGlobalContextManager(new TestContexts());
  try {
    const tracer = new TestTracer();
    await test(new OtelTracing("wasm", tracer), tracer);
  } finally {
    context.disable();
  }
}

function call(method: string, traceparent?: string, ids: { sandboxId?: string } = {}) {
  const [service = "", name = ""] = method.split("/");
  return { service, method: name, header: () => traceparent, ...ids };
}

/** The calls of containerd that make a container run. */
async function start(tracing: OtelTracing, traceparent?: string): Promise<void> {
  const ids = { sandboxId: "s", containerId: "c" };
  const rpc = async (method: string, run: () => Promise<void>) =>
    await tracing.rpc(call(method, method.startsWith("Task") ? traceparent : undefined), run);
  await rpc(
    "Controller/Create",
    () => tracing.operation({ name: "sandbox_create", sandboxId: "s" }, () => Promise.resolve()),
  );
  await rpc(
    "Controller/Start",
    () =>
      tracing.operation({ name: "sandbox_start", sandboxId: "s" }, async () => {
        await Promise.resolve();
        tracing.phase("machine", 1, 2);
      }),
  );
  await rpc(
    "Task/Create",
    () => tracing.operation({ name: "container_create", ...ids }, () => Promise.resolve()),
  );
  await rpc(
    "Task/Start",
    () => tracing.operation({ name: "container_start", ...ids }, () => Promise.resolve()),
  );
  tracing.firstOutput({ ...ids, startedAtMs: 10, at: 12 });
}

Deno.test("from the Sandbox API to the first byte it is one trace", async () => {
  await traced(async (tracing, tracer) => {
    await start(tracing);
    const { traceId, spanId } = tracer.one("Controller/Create").own;
    assert.equal(tracer.one("Controller/Create").parentSpanId, undefined);
    assert.equal(tracer.one("Task/Start").parentSpanId, spanId);
    const started = tracer.one("container_start");
    assert.equal(started.parentSpanId, tracer.one("Task/Start").own.spanId);
    assert.equal(tracer.one("machine").parentSpanId, tracer.one("sandbox_start").own.spanId);
    assert.equal(tracer.one("first_output").parentSpanId, started.own.spanId);
    for (const span of tracer.spans) {
      assert.equal(span.own.traceId, traceId, span.name);
      assert.equal(span.ended, 1, span.name);
    }
    assert.equal(started.attributes["quasaur.sandbox.id"], "s");
    assert.equal(started.attributes["container.id"], "c");
  });
});

Deno.test("a caller's trace is taken up, and linked to the sandbox's", async () => {
  await traced(async (tracing, tracer) => {
    await start(tracing, TRACEPARENT);
    const taskStart = tracer.one("Task/Start");
    assert.equal(taskStart.parentSpanId, CALLER.spanId);
    assert.equal(tracer.one("first_output").own.traceId, CALLER.traceId);
    const links = taskStart.options.links ?? [];
    const sandbox = tracer.one("Controller/Create").own.traceId;
    assert.deepEqual(links.map((link) => link.context.traceId), [sandbox]);
  });
});

Deno.test("later calls have traces of their own that are linked to the sandbox's", async () => {
  await traced(async (tracing, tracer) => {
    await start(tracing);
    const { traceId } = tracer.one("Controller/Create").own;
    await tracing.rpc(call("Task/Kill", undefined, { sandboxId: "s" }), () => Promise.resolve());
    const kill = tracer.one("Task/Kill");
    assert.notEqual(kill.own.traceId, traceId);
    assert.deepEqual(kill.options.links?.map((link) => link.context.traceId), [traceId]);
    await tracing.operation({ name: "sandbox_delete", sandboxId: "s" }, () => Promise.resolve());
    await tracing.rpc(call("Controller/Stop", undefined, { sandboxId: "s" }), () => undefined);
    assert.deepEqual(tracer.one("Controller/Stop").options.links, [], "it is forgotten by then");
  });
});

Deno.test("what fails says so in its spans, and to its caller", async () => {
  await traced(async (tracing, tracer) => {
    const error = new SandboxError("ResourceExhausted", "too many");
    const create = () =>
      tracing.operation({ name: "sandbox_create", sandboxId: "s" }, () => Promise.reject(error));
    await assert.rejects(async () => await tracing.rpc(call("Controller/Create"), create), error);
    for (const name of ["sandbox_create", "Controller/Create"]) {
      const { status, attributes, ended } = tracer.one(name);
      assert.equal(status.code, SpanStatusCode.ERROR);
      assert.equal(attributes["error.type"], "ResourceExhausted");
      assert.equal(ended, 1);
    }
    const fail = () => {
      throw error;
    };
    assert.throws(() => tracing.rpc(call("Task/Kill"), fail), error);
    assert.equal(tracer.one("Task/Kill").ended, 1);
  });
});

Deno.test("calls that wait or only look have no spans", async () => {
  await traced(async (tracing, tracer) => {
    for (const method of ["Task/Wait", "Task/State", "Controller/Status", "Management/List"]) {
      assert.equal(await tracing.rpc(call(method), () => 1), 1);
    }
    assert.deepEqual(tracer.spans, []);
  });
});

Deno.test("a record of the log says which span it belongs to", async () => {
  await traced(async (tracing, tracer) => {
    assert.equal(tracing.logFields(), undefined);
    const operation = { name: "sandbox_create", sandboxId: "s" } as const;
    const fields = await tracing.operation(operation, () => Promise.resolve(tracing.logFields()));
    const { traceId, spanId } = tracer.one("sandbox_create").own;
    assert.deepEqual(fields, { trace: traceId, span: spanId });
  });
});

Deno.test("a trace context is read as W3C says, and refused when it is not one", () => {
  assert.deepEqual(callerContext(TRACEPARENT), {
    ...CALLER,
    traceFlags: TraceFlags.SAMPLED,
    isRemote: true,
  });
  assert.equal(callerContext(`${TRACEPARENT.slice(0, -1)}0`)?.traceFlags, TraceFlags.NONE);
  const bad = [
    undefined,
    "",
    TRACEPARENT.toUpperCase(),
    `ff${TRACEPARENT.slice(2)}`,
    `00-${"0".repeat(32)}-${CALLER.spanId}-01`,
    `00-${CALLER.traceId}-${"0".repeat(16)}-01`,
    `00-${CALLER.traceId}-${CALLER.spanId}`,
    `${TRACEPARENT}x`,
  ];
  for (const header of bad) assert.equal(callerContext(header), undefined, `${header}`);
});
