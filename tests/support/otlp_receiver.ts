/**
 * A small receiver of traces (OTLP over HTTP) on loopback. It reads what comes as JSON; what comes as
 * protobuf it keeps as bytes, in which ids can be looked for.
 *
 * Source: opentelemetry-proto, trace/v1/trace.proto and its mapping to JSON.
 *
 * @module
 */

/** A span as it was sent. */
export interface ReceivedSpan {
  /** Of whom: the resource's `service.name`. */
  readonly service: string;
  /** In hexadecimal. */
  readonly traceId: string;
  /** In hexadecimal. */
  readonly spanId: string;
  /** In hexadecimal; empty for none. */
  readonly parentSpanId: string;
  /** What was done. */
  readonly name: string;
  /** In milliseconds since the epoch. */
  readonly startMs: number;
  /** In milliseconds since the epoch. */
  readonly endMs: number;
  /** Those with texts as values. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Traces that it is linked to. */
  readonly linkedTraceIds: readonly string[];
  /** Whether it failed. */
  readonly failed: boolean;
}

/**
 * Variables that have the wasm sandboxer send its traces, and nothing else.
 *
 * @param endpoint Where to.
 */
export function exporterEnv(endpoint: string): Record<string, string> {
  return {
    OTEL_DENO: "true",
    OTEL_DENO_METRICS: "false",
    OTEL_DENO_CONSOLE: "ignore",
    OTEL_SERVICE_NAME: "quasaur-wasm",
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
  };
}

/** A receiver. */
export class OtlpReceiver implements AsyncDisposable {
  /** What has come, in order. */
  readonly spans: ReceivedSpan[] = [];
  readonly #binary: Uint8Array[] = [];
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  /** Listens at a free port. */
  constructor() {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen: () => undefined },
      (request) => this.#receive(request),
    );
  }

  /** Where to send to. */
  get endpoint(): string {
    return `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /**
   * Whether a span was sent as protobuf.
   *
   * @param spanId In hexadecimal.
   */
  hasBinarySpan(spanId: string): boolean {
    const wanted = Uint8Array.fromHex(spanId);
    return this.#binary.some((bytes) =>
      bytes.some((byte, at) =>
        byte === wanted[0] && wanted.every((expected, i) => bytes[at + i] === expected)
      )
    );
  }

  async #receive(request: Request): Promise<Response> {
    const isTraces = new URL(request.url).pathname === "/v1/traces";
    if (request.headers.get("content-type") !== "application/json") {
      this.#binary.push(await request.bytes());
    } else if (isTraces) this.spans.push(...readSpans(await request.json()));
    else await request.bytes();
    return Response.json({});
  }

  /** Stops listening. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

/** All spans of a message. */
function readSpans(message: unknown): ReceivedSpan[] {
  return list(message, "resourceSpans").flatMap((resource) => {
    const { "service.name": service = "" } = attributesOf(member(resource, "resource"));
    return list(resource, "scopeSpans").flatMap((scope) =>
      list(scope, "spans").map((span) => readSpan(service, span))
    );
  });
}

function readSpan(service: string, span: unknown): ReceivedSpan {
  return {
    service,
    traceId: text(span, "traceId"),
    spanId: text(span, "spanId"),
    parentSpanId: text(span, "parentSpanId"),
    name: text(span, "name"),
    startMs: Number(text(span, "startTimeUnixNano")) / 1e6,
    endMs: Number(text(span, "endTimeUnixNano")) / 1e6,
    attributes: attributesOf(span),
    linkedTraceIds: list(span, "links").map((link) => text(link, "traceId")),
    failed: member(member(span, "status"), "code") === 2,
  };
}

function attributesOf(of: unknown): Record<string, string> {
  return Object.fromEntries(
    list(of, "attributes").map((each) => [
      text(each, "key"),
      text(member(each, "value"), "stringValue"),
    ]),
  );
}

function member(of: unknown, name: string): unknown {
  return typeof of === "object" && of !== null ? Reflect.get(of, name) : undefined;
}

function list(of: unknown, name: string): readonly unknown[] {
  const found = member(of, name);
  return Array.isArray(found) ? found : [];
}

function text(of: unknown, name: string): string {
  const found = member(of, name);
  return typeof found === "string" ? found : "";
}
