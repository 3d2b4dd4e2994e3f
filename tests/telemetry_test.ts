/**
 * Metrics, traces and logs of a real sandboxer under a real containerd: metrics read by another
 * project's parser, traces by a receiver of OTLP, logs line by line.
 *
 * @module
 */

import assert from "node:assert/strict";
import parsePrometheus from "parse-prometheus-text-format";
import config from "../deno.json" with { type: "json" };
import { Management } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { GrpcClient } from "../proto/grpc.ts";
import { METRICS } from "../sandboxers/telemetry/definitions.ts";
import { GUESTS_BUILD_DIR } from "./guests/build.ts";
import { type BedContext, withLogs } from "./support/bed_tests.ts";
import { Bed } from "./support/bed.ts";
import { wasmImage } from "./support/oci_image.ts";
import { exporterEnv, OtlpReceiver, type ReceivedSpan } from "./support/otlp_receiver.ts";
import { SandboxerPaths, SandboxerProcess, sandboxerProgram } from "./support/sandboxer.ts";
import { waitFor } from "./support/wait.ts";

/** Prints its arguments and its environment. */
const IMAGE = "quasaur.test/telemetry:1";

/** What pods are given as their secret. */
const SECRET = "hunter2-f00dcafe";

/** What a step gets. */
interface Context extends BedContext {
  /** Gets the traces of sandboxer and containerd. */
  readonly receiver: OtlpReceiver;
  /** Reads the sandboxer's metrics at its unix socket. */
  readonly client: Deno.HttpClient;
}

/** Variables that switch Deno's exporter on, as an operator would. */
function otelEnv(endpoint: string): Record<string, string> {
  return {
    ...exporterEnv(endpoint),
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
    OTEL_BSP_SCHEDULE_DELAY: "100",
  };
}

/** Runs something in a bed whose sandboxer and containerd send traces. */
async function inBed(test: (context: Context) => Promise<void>): Promise<void> {
  await using receiver = new OtlpReceiver();
  const program = sandboxerProgram("wasm");
  await using bed = await Bed.start({
    kinds: [{
      ...program,
      env: { ...program.env, ...otelEnv(receiver.endpoint) },
      flags: ["--metrics-pods=10", "--log-format=json"],
    }],
    logLevel: "trace",
    containerdTraces: receiver.endpoint,
  });
  const args = await Deno.readFile(`${GUESTS_BUILD_DIR}/args.wasm`);
  await bed.containerd.importImage(wasmImage(IMAGE, args));
  const path = `${bed.sandboxer("wasm").paths.runDirectory}/wasm-metrics.sock`;
  using client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
  using cri = bed.cri();
  await withLogs(bed, () => test({ bed, cri, receiver, client }));
}

/** The values of series by name and labels. */
type Values = ReadonlyMap<string, number>;

/** Reads metrics with a parser that is not ours. */
async function scrape(client: Deno.HttpClient, origin = "http://localhost"): Promise<Values> {
  const response = await fetch(`${origin}/metrics`, { client });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  // The parser knows no histograms with labels: it gets their parts as they are.
  const text = (await response.text()).replace(/^# TYPE (\w+) histogram$/gm, "# TYPE $1 untyped");
  const values = new Map<string, number>();
  for (const { name, metrics } of parsePrometheus(text)) {
    const family = name.replace(/_(bucket|sum|count)$/, "");
    assert.ok(Object.hasOwn(METRICS, name) || Object.hasOwn(METRICS, family), `unknown ${name}`);
    for (const { labels = {}, value } of metrics) {
      const written = Object.entries(labels).map(([key, is]) => `${key}="${is}"`).join(",");
      values.set(`${name}{${written}}`, Number(value));
    }
  }
  return values;
}

/** How much a series has grown; one that was not there counts 0. */
function growth(before: Values, after: Values, series: string): number {
  return (after.get(series) ?? 0) - (before.get(series) ?? 0);
}

async function metricsGoUp({ bed, cri, client }: Context): Promise<void> {
  const { stateDirectory } = bed.sandboxer("wasm").paths;
  const socket = await Deno.stat(`${stateDirectory}-metrics.sock`);
  assert.equal((socket.mode ?? 0) & 0o777, 0o600);
  const before = await scrape(client);
  const info = [...before.keys()].find((series) => series.startsWith("quasaur_build_info"));
  assert.match(info ?? "", new RegExp(`kind="wasm",version="${config.version}",deno="2\\.`));
  await using pod = await cri.runPod({ handler: "quasaur-wasm" });
  assert.equal((await pod.runContainer({ image: IMAGE })).exitCode, 0);
  const missing = { image: IMAGE, name: "missing", command: ["/not-there.wasm"] };
  await assert.rejects(pod.startContainer(missing), /not-there/);
  const after = await waitFor("the first output", async () => {
    const values = await scrape(client);
    return values.get(`quasaur_first_output_seconds_count{kind="wasm"}`) === 1 ? values : undefined;
  });
  const grown = (name: string, labels: string) =>
    growth(before, after, `${name}{kind="wasm"${labels === "" ? "" : `,${labels}`}}`);
  assert.equal(grown("quasaur_sandboxes", `state="ready"`), 1);
  for (const name of ["sandbox_create", "sandbox_start", "container_create", "container_start"]) {
    assert.equal(grown("quasaur_operations_total", `operation="${name}",code="OK"`), 1, name);
    assert.equal(grown("quasaur_operation_duration_seconds_count", `operation="${name}"`), 1, name);
  }
  assert.equal(
    grown("quasaur_operations_total", `operation="container_create",code="InvalidArgument"`) +
      grown("quasaur_operations_total", `operation="container_create",code="NotFound"`),
    1,
  );
  const phases = [
    ...["sandbox_start/store", "sandbox_start/driver", "container_create/mount"],
    ...["container_create/module", "container_create/instantiate", "container_start/thread"],
  ];
  for (const phase of phases) {
    const labels = `operation="${phase.split("/")[0]}",phase="${phase.split("/")[1]}"`;
    assert.ok(grown("quasaur_operation_phase_duration_seconds_count", labels) >= 1, phase);
  }
  const created = `service="Task",method="Create"`;
  assert.equal(grown("quasaur_rpcs_total", `${created},code="OK"`), 1);
  assert.equal(grown("quasaur_rpc_duration_seconds_count", created), 2);
  assert.equal(grown("quasaur_rpc_duration_seconds_count", `service="Task",method="Wait"`), 0);
  assert.equal(grown("quasaur_exits_total", `reason="exited"`), 1);
  assert.equal(grown("quasaur_wasm_module_requests_total", `source="file"`), 1);
  assert.equal(grown("quasaur_waiters", ""), 1);
  const ofPods = [...after.keys()].filter((key) => key.startsWith("quasaur_pod_cpu_seconds_total"));
  assert.equal(ofPods.length, 1);
  assert.match(ofPods.join(), new RegExp(`sandbox="${pod.id}"`));
  assert.ok((after.get("process_resident_memory_bytes{}") ?? 0) > 2 ** 24);
  const elsewhere = await fetch("http://localhost/", { client });
  assert.equal(elsewhere.status, 404);
  await elsewhere.body?.cancel();
}

/** Waits for the spans of a container's whole start. */
async function spansOf(receiver: OtlpReceiver, container: string): Promise<ReceivedSpan[]> {
  return await waitFor("the spans of a start", () => {
    const own = receiver.spans.filter(({ attributes }) => attributes["container.id"] === container);
    const names = own.map(({ name }) => name);
    const isWhole = ["first_output", "Task/Start", "Task/Delete"].every((it) => names.includes(it));
    return isWhole ? own : undefined;
  });
}

async function traceReachesFirstByte({ bed, cri, receiver }: Context): Promise<void> {
  await using pod = await cri.runPod({ handler: "quasaur-wasm" });
  const { container } = await pod.runContainer({ image: IMAGE });
  const own = await spansOf(receiver, container.id);
  const one = (name: string, among: readonly ReceivedSpan[]): ReceivedSpan => {
    const [first, ...others] = among.filter((span) => span.name === name);
    assert.ok(first !== undefined && others.length === 0, `${1 + others.length} spans ${name}`);
    return first;
  };
  const ofPod = receiver.spans.filter(({ attributes }) =>
    attributes["quasaur.sandbox.id"] === pod.id
  );
  // containerd sends no context with calls of the Sandbox API: they are one trace of their own.
  const create = one("Controller/Create", ofPod);
  assert.equal(create.service, "quasaur-wasm");
  assert.equal(create.parentSpanId, "");
  assert.equal(one("sandbox_create", ofPod).parentSpanId, create.spanId);
  const start = one("Controller/Start", ofPod);
  assert.equal(start.traceId, create.traceId);
  assert.equal(start.parentSpanId, create.spanId);
  assert.equal(one("sandbox_start", ofPod).parentSpanId, start.spanId);
  // With those of the Task API it does: they are in its trace, linked to the sandbox's.
  const taskStart = one("Task/Start", own);
  assert.deepEqual(taskStart.linkedTraceIds, [create.traceId]);
  await waitFor("containerd's own span", () => receiver.hasBinarySpan(taskStart.parentSpanId));
  const containerStart = one("container_start", own);
  assert.equal(containerStart.parentSpanId, taskStart.spanId);
  const output = one("first_output", own);
  assert.equal(output.parentSpanId, containerStart.spanId);
  assert.equal(output.traceId, one("Task/Create", own).traceId);
  assert.ok(output.startMs >= taskStart.startMs - 5 && output.endMs >= output.startMs);
  const phases = receiver.spans.filter((span) => span.parentSpanId === containerStart.spanId);
  assert.ok(phases.some(({ name }) => name === "thread"));
  assert.deepEqual(one("Task/Delete", own).linkedTraceIds, [create.traceId]);
  // A record of the log says which trace and which container it belongs to.
  const records = await logRecords(bed);
  const call = records.find(({ method, container: of }) =>
    method === "Start" && of === container.id
  );
  assert.equal(call?.["sandbox"], pod.id);
}

/** The records of the sandboxer's log; every line but the one that says `ready` is one. */
async function logRecords(bed: Bed): Promise<Record<string, unknown>[]> {
  const text = await bed.sandboxer("wasm").process.log();
  return text.split("\n").filter((line) => line !== "" && line !== "ready")
    .map((line) => JSON.parse(line));
}

async function levelChanges({ bed, cri, client: metrics }: Context): Promise<void> {
  using client = new GrpcClient(bed.sandboxer("wasm").paths.socketPath);
  const setLevel = (level: string) => client.call(Management.method.setLogLevel, { level });
  const callsOfPod = async () => {
    await using pod = await cri.runPod({ handler: "quasaur-wasm" });
    await pod.remove();
    return (await logRecords(bed)).filter(({ sandbox }) => sandbox === pod.id).length;
  };
  assert.equal((await setLevel("warn")).previous, "trace");
  assert.equal(await callsOfPod(), 0);
  assert.equal((await setLevel("debug")).previous, "warn");
  assert.ok(await callsOfPod() > 0);
  await assert.rejects(setLevel("loud"), /loud/);
  await setLevel("trace");
  const calls = `quasaur_rpcs_total{kind="wasm",service="Management",method="SetLogLevel"`;
  const values = await scrape(metrics);
  assert.equal(values.get(`${calls},code="OK"}`), 3);
  assert.equal(values.get(`${calls},code="InvalidArgument"}`), 1);
}

async function secretsStayInside({ bed, cri, receiver, client }: Context): Promise<void> {
  for (const isolation of ["thread", "process"]) {
    await using pod = await cri.runPod({
      handler: "quasaur-wasm",
      annotations: { "example.com/api-token": SECRET, "quasaur.dev/isolation": isolation },
    });
    const env = { PASSWORD: SECRET, GREETING: `hello ${SECRET}` };
    const done = await pod.runContainer({
      image: IMAGE,
      env,
      annotations: { "example.com/credentials": SECRET },
    });
    assert.ok(done.stdout.includes(`env PASSWORD=${SECRET}`), "the guest has got its secret");
    const broken = { image: IMAGE, name: "broken", env, command: ["/not-there.wasm"] };
    await assert.rejects(pod.startContainer(broken));
    await spansOf(receiver, done.container.id);
    const about = (await logRecords(bed)).filter(({ container }) =>
      container === done.container.id
    );
    assert.ok(about.length > 0, "the log tells of the container");
  }
  assert.ok(!(await bed.sandboxer("wasm").process.log()).includes(SECRET));
  assert.ok(!JSON.stringify(receiver.spans).includes(SECRET));
  const response = await fetch("http://localhost/metrics", { client });
  assert.ok(!(await response.text()).includes(SECRET));
}

Deno.test("a real sandboxer under a real containerd", async (t) => {
  await inBed(async (context) => {
    await t.step("its metrics go up with what is done", () => metricsGoUp(context));
    await t.step(
      "its traces reach from the Sandbox API to a guest's first byte",
      () => traceReachesFirstByte(context),
    );
    await t.step("the level of its log changes while it runs", () => levelChanges(context));
    await t.step(
      "no secret of a pod is in its log, its traces or its metrics",
      () => secretsStayInside(context),
    );
  });
});

/** A port of loopback that nobody listens at. */
function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

Deno.test("metrics can be read at a port of loopback, which the permissions must name", async () => {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-metrics-" });
  try {
    const program = sandboxerProgram("wasm");
    const port = freePort();
    const net = program.permissions["net"];
    assert.ok(Array.isArray(net));
    const flags = [`--metrics=127.0.0.1:${port}`];
    const paths = new SandboxerPaths("wasm", directory);
    using client = Deno.createHttpClient({});
    const origin = `http://127.0.0.1:${port}`;
    {
      const permissions = { ...program.permissions, net: [...net, `127.0.0.1:${port}`] };
      await using open = new SandboxerProcess({ ...program, permissions, flags }, paths, "info");
      await open.start();
      assert.equal(
        (await scrape(client, origin)).get(`quasaur_recovery_seconds{kind="wasm"}`) !== undefined,
        true,
      );
    }
    await using closed = new SandboxerProcess({ ...program, flags }, paths, "info");
    await closed.start();
    await assert.rejects(scrape(client, origin), TypeError);
    assert.match(
      await closed.process.log(),
      new RegExp(`there are no metrics.*add --allow-net=127\\.0\\.0\\.1:${port}`),
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
