import {
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import assert from "node:assert/strict";
import {
  createRequest,
  type Fixture,
  MemoryDriver,
  NAMESPACE,
  startFixture,
} from "./controller/fixture.ts";
import { MemoryStore } from "./lifecycle/store.ts";
import { SandboxError } from "./lifecycle/errors.ts";
import { refused } from "./lifecycle/testing/refused.ts";
import { Controller } from "../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { MetricsSchema } from "../proto/gen/io/containerd/cgroups/v2/metrics_pb.ts";
import type { CallOptions } from "../proto/grpc.ts";

/** Calls in the namespace that CRI uses. */
function call<I extends DescMessage, O extends DescMessage>(
  fixture: Fixture,
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
  options: CallOptions = {},
): Promise<MessageShape<O>> {
  return fixture.client.call(method, request, { metadata: NAMESPACE, ...options });
}

/** A sandbox that runs. */
async function startSandbox(fixture: Fixture, sandboxId: string): Promise<void> {
  await call(fixture, Controller.method.create, createRequest(sandboxId));
  await call(fixture, Controller.method.start, { sandboxId });
}

const { method } = Controller;

Deno.test("Create makes a sandbox that Status shows as not ready", async () => {
  await using fixture = await startFixture();
  const answer = await call(fixture, method.create, createRequest("a1"));
  assert.equal(answer.sandboxId, "a1");
  const status = await call(fixture, method.status, { sandboxId: "a1" });
  assert.equal(status.state, "SANDBOX_NOTREADY");
  assert.equal(status.address, "ttrpc+unix:///run/test/task.sock");
  assert.equal(status.version, 3);
  assert.ok(status.createdAt !== undefined && timestampMs(status.createdAt) > 0);
  assert.equal(fixture.sandboxer.sandbox("a1").spec.name, "default/web");
});

Deno.test("a sandbox that takes its own task calls is told with its own address while it runs", async () => {
  await using fixture = await startFixture();
  fixture.driver.taskSocket = "/run/test/own.sock";
  await call(fixture, method.create, createRequest("a1"));
  const own = "ttrpc+unix:///run/test/own.sock";
  assert.equal((await call(fixture, method.start, { sandboxId: "a1" })).address, own);
  assert.equal((await call(fixture, method.status, { sandboxId: "a1" })).address, own);
  await call(fixture, method.stop, { sandboxId: "a1" });
  const stopped = await call(fixture, method.status, { sandboxId: "a1" });
  assert.equal(stopped.address, "ttrpc+unix:///run/test/task.sock");
});

Deno.test("Create refuses an id that is taken", async () => {
  await using fixture = await startFixture();
  await call(fixture, method.create, createRequest("a1"));
  await refused(call(fixture, method.create, createRequest("a1")), "AlreadyExists");
});

Deno.test("a Create that its caller cancels leaves nothing", async () => {
  const writing = Promise.withResolvers<void>();
  const mayWrite = Promise.withResolvers<void>();
  class SlowStore extends MemoryStore {
    override put(): Promise<void> {
      writing.resolve();
      return mayWrite.promise;
    }
  }
  await using fixture = await startFixture(new MemoryDriver(), new SlowStore());
  const caller = new AbortController();
  const options = { signal: caller.signal };
  const created = call(fixture, method.create, createRequest("a1"), options);
  await writing.promise;
  caller.abort();
  await refused(created, "Cancelled");
  // A call after it on the same connection: the server knows of the cancellation.
  await refused(call(fixture, method.status, { sandboxId: "b" }), "NotFound");
  mayWrite.resolve();
  await gone(fixture, "a1");
});

for (const id of ["", ".", "..", ".a", "a/b", "../a", "a b", "a\0", "ä", "x".repeat(129)]) {
  Deno.test(`Create refuses the id ${JSON.stringify(id.slice(0, 20))}`, async () => {
    await using fixture = await startFixture();
    await refused(
      call(fixture, method.create, createRequest(id)),
      "InvalidArgument",
      /sandbox_id/,
    );
    assert.deepEqual(fixture.sandboxer.sandboxes(), []);
  });
}

Deno.test("Create takes the longest id", async () => {
  await using fixture = await startFixture();
  await call(fixture, method.create, createRequest("x".repeat(128)));
});

Deno.test("Create names the field that it cannot read", async () => {
  await using fixture = await startFixture();
  const { options } = createRequest("a1");
  const cases: [MessageInitShape<typeof method.create.input>, RegExp][] = [
    [{ options: { typeUrl: "runtime.v1.Other", value: options.value } }, /options\.type_url/],
    [{ options: { typeUrl: "", value: options.value } }, /options\.type_url/],
    [{ options: { ...options, value: new Uint8Array([255, 255, 255]) } }, /options\.value/],
    [{ options, netnsPath: "/var/run/netns/x" }, /netns_path/],
    [{ options, sandbox: { sandboxId: "other" } }, /sandbox\.sandbox_id/],
  ];
  for (const [request, field] of cases) {
    await refused(
      call(fixture, method.create, { sandboxId: "a1", ...request }),
      "InvalidArgument",
      field,
    );
  }
  assert.deepEqual(fixture.sandboxer.sandboxes(), []);
});

Deno.test("every call wants a namespace", async () => {
  await using fixture = await startFixture();
  for (const one of Controller.methods) {
    assert.equal(one.methodKind, "unary");
    const options = { metadata: {} };
    const request = { sandboxId: "a1" };
    const promise = fixture.client.call(one as DescMethodUnary, request, options);
    await refused(promise, "FailedPrecondition", /namespace is required/);
  }
});

Deno.test("a namespace with other characters is refused", async () => {
  await using fixture = await startFixture();
  for (const namespace of ["a/b", "..", "-a", "a--b", "a b", "x".repeat(77)]) {
    const metadata = { "containerd-namespace": namespace };
    const promise = call(fixture, method.status, { sandboxId: "a1" }, { metadata });
    await refused(promise, "InvalidArgument", /namespace/);
  }
});

Deno.test("a sandbox of another namespace is not found, whatever the call", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  for (const one of Controller.methods) {
    if (one.localName === "create") continue;
    const metadata = { "containerd-namespace": "other" };
    const promise = fixture.client.call(one as DescMethodUnary, { sandboxId: "a1" }, { metadata });
    await refused(promise, "NotFound", /"a1"/);
  }
  assert.equal(fixture.sandboxer.sandbox("a1").state, "ready");
});

Deno.test("a sandbox that nobody made is not found, whatever the call", async () => {
  await using fixture = await startFixture();
  for (const one of Controller.methods) {
    if (one.localName === "create") continue;
    const promise = call(fixture, one as DescMethodUnary, { sandboxId: "a1" });
    await refused(promise, "NotFound", /"a1"/);
  }
});

Deno.test("Start answers what containerd needs to run containers", async () => {
  await using fixture = await startFixture();
  await call(fixture, method.create, createRequest("a1"));
  const before = Date.now();
  const started = await call(fixture, method.start, { sandboxId: "a1" });
  assert.equal(started.sandboxId, "a1");
  assert.equal(started.pid, 4242);
  assert.equal(started.address, "ttrpc+unix:///run/test/task.sock");
  assert.equal(started.version, 3);
  assert.deepEqual(started.labels, {});
  assert.ok(started.createdAt !== undefined && timestampMs(started.createdAt) <= before);
  const status = await call(fixture, method.status, { sandboxId: "a1" });
  assert.equal(status.state, "SANDBOX_READY");
  assert.equal(status.pid, 4242);
  assert.equal(status.exitedAt, undefined);
});

Deno.test("Start of a started sandbox is refused and leaves it running", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  await refused(call(fixture, method.start, { sandboxId: "a1" }), "FailedPrecondition");
  assert.equal(fixture.sandboxer.sandbox("a1").state, "ready");
});

Deno.test("a Start that fails leaves nothing and tells why", async () => {
  await using fixture = await startFixture();
  fixture.driver.failure = new SandboxError("ResourceExhausted", "cannot start: no memory left");
  await call(fixture, method.create, createRequest("a1"));
  await refused(
    call(fixture, method.start, { sandboxId: "a1" }),
    "ResourceExhausted",
    /no memory left/,
  );
  await refused(call(fixture, method.status, { sandboxId: "a1" }), "NotFound");
});

Deno.test("a foreign error is Internal, keeps its message and is logged", async () => {
  await using fixture = await startFixture();
  fixture.driver.failure = new RangeError("the moon is full \ud800");
  await call(fixture, method.create, createRequest("a1"));
  await refused(call(fixture, method.start, { sandboxId: "a1" }), "Internal", /moon is full/);
  assert.ok(fixture.logged.some((line) => /ERROR.*moon is full/.test(line)), `${fixture.logged}`);
});

Deno.test("a Start that its caller cancels is undone", async () => {
  await using fixture = await startFixture();
  fixture.driver.slow = "gives up";
  await call(fixture, method.create, createRequest("a1"));
  const caller = new AbortController();
  const started = call(fixture, method.start, { sandboxId: "a1" }, { signal: caller.signal });
  await fixture.driver.begun.promise;
  caller.abort();
  await refused(started, "Cancelled");
  await gone(fixture, "a1");
  assert.equal(fixture.driver.running.size, 0);
});

Deno.test("a Start that misses its caller's deadline is undone", async () => {
  await using fixture = await startFixture();
  fixture.driver.slow = "gives up";
  await call(fixture, method.create, createRequest("a1"));
  const started = call(fixture, method.start, { sandboxId: "a1" }, { timeoutMs: 100 });
  await refused(started, "DeadlineExceeded");
  await gone(fixture, "a1");
  assert.ok(fixture.logged.some((line) => line.includes("DeadlineExceeded")), `${fixture.logged}`);
});

Deno.test("a Start that succeeds after its caller has gone is undone", async () => {
  await using fixture = await startFixture();
  fixture.driver.slow = "goes on";
  await call(fixture, method.create, createRequest("a1"));
  const caller = new AbortController();
  const started = call(fixture, method.start, { sandboxId: "a1" }, { signal: caller.signal });
  await fixture.driver.begun.promise;
  caller.abort();
  await refused(started, "Cancelled");
  await gone(fixture, "a1");
  assert.deepEqual(fixture.driver.graces, [0]);
  assert.equal(fixture.driver.running.size, 0);
});

/** Waits until a sandbox is forgotten. */
async function gone(fixture: Fixture, id: string): Promise<void> {
  const until = Date.now() + 5000;
  while (fixture.sandboxer.sandboxes().some(({ spec }) => spec.id === id)) {
    assert.ok(Date.now() < until, `sandbox ${id} is still there`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("Platform is the host's, by its OCI name", async () => {
  await using fixture = await startFixture();
  await call(fixture, method.create, createRequest("a1"));
  const { platform } = await call(fixture, method.platform, { sandboxId: "a1" });
  assert.equal(platform?.os, "linux");
  assert.equal(platform?.architecture, Deno.build.arch === "x86_64" ? "amd64" : "arm64");
});

Deno.test("Stop gives the sandbox the time that was asked for", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  await startSandbox(fixture, "a2");
  await call(fixture, method.stop, { sandboxId: "a1", timeoutSecs: 7 });
  await call(fixture, method.stop, { sandboxId: "a2" });
  assert.deepEqual(fixture.driver.graces, [7000, 0]);
});

Deno.test("Stop of a stopped sandbox succeeds, and Status and Wait know how it ended", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  await call(fixture, method.stop, { sandboxId: "a1" });
  await call(fixture, method.stop, { sandboxId: "a1" });
  const status = await call(fixture, method.status, { sandboxId: "a1" });
  assert.equal(status.state, "SANDBOX_NOTREADY");
  assert.equal(status.version, 3);
  assert.ok(status.exitedAt !== undefined && timestampMs(status.exitedAt) > 0);
  const exit = await call(fixture, method.wait, { sandboxId: "a1" });
  assert.equal(exit.exitStatus, 0);
  assert.deepEqual(exit.exitedAt, status.exitedAt);
});

Deno.test("Wait ends when the sandbox ends by itself, with its status", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  const waits = [1, 2, 3].map(() => call(fixture, method.wait, { sandboxId: "a1" }));
  fixture.driver.running.get("a1")?.({ status: 137, at: 1_700_000_000_123, reason: "lost" });
  for (const exit of await Promise.all(waits)) {
    assert.equal(exit.exitStatus, 137);
    assert.ok(exit.exitedAt !== undefined);
    assert.equal(timestampMs(exit.exitedAt), 1_700_000_000_123);
  }
});

Deno.test("verbose Status has facts that containerd can read as its own", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  const plain = await call(fixture, method.status, { sandboxId: "a1" });
  assert.deepEqual(plain.info, {});
  const { info } = await call(fixture, method.status, { sandboxId: "a1", verbose: true });
  const facts = JSON.parse(info["info"] ?? "");
  assert.equal(facts.pid, 4242);
  assert.equal(facts.processStatus, "running");
  assert.deepEqual(facts.quasaur.network, { kind: "host" });
});

Deno.test("Shutdown stops, forgets, and the second one finds nothing", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  await call(fixture, method.shutdown, { sandboxId: "a1" });
  assert.equal(fixture.driver.running.size, 0);
  await refused(call(fixture, method.shutdown, { sandboxId: "a1" }), "NotFound");
  await call(fixture, method.create, createRequest("a1"));
});

Deno.test("Metrics are cgroup v2 metrics", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  const { metrics } = await call(fixture, method.metrics, { sandboxId: "a1" });
  assert.equal(metrics?.id, "a1");
  assert.equal(metrics.data?.typeUrl, "io.containerd.cgroups.v2.Metrics");
  const decoded = fromBinary(MetricsSchema, metrics.data.value);
  assert.equal(decoded.cpu?.usageUsec, 5000n);
  assert.equal(decoded.memory?.usage, 1024n);
  assert.equal(decoded.memory.usageLimit, 4096n);
  assert.equal(decoded.pids?.current, 3n);
  assert.ok(metrics.timestamp !== undefined);
  assert.equal(timestampMs(metrics.timestamp), 1_700_000_000_000);
});

Deno.test("Metrics of a sandbox that does not run are refused", async () => {
  await using fixture = await startFixture();
  await call(fixture, method.create, createRequest("a1"));
  await refused(call(fixture, method.metrics, { sandboxId: "a1" }), "FailedPrecondition");
});

/** What containerd 2.3 and later send for new limits. */
function updateRequest(json: unknown): MessageInitShape<typeof method.update.input> {
  return {
    sandboxId: "a1",
    fields: ["extensions"],
    sandbox: {
      sandboxId: "a1",
      extensions: {
        metadata: { typeUrl: "github.com/containerd/cri/pkg/store/sandbox/Metadata" },
        "updated-resources": {
          typeUrl: "io.containerd.cri.v1/UpdatedResources",
          value: new TextEncoder().encode(JSON.stringify(json)),
        },
      },
    },
  };
}

Deno.test("Update brings new limits to the sandbox", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  const request = updateRequest({
    Overhead: null,
    Resources: { cpu_period: 100000, cpu_quota: 50000, memory_limit_in_bytes: 1 << 30 },
  });
  await call(fixture, method.update, request);
  assert.deepEqual(fixture.driver.updates, [
    { memoryBytes: 1 << 30, cpuQuotaUs: 50000, cpuPeriodUs: 100000 },
  ]);
});

Deno.test("Update without limits changes nothing", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  await call(fixture, method.update, { sandboxId: "a1", fields: ["extensions"] });
  assert.deepEqual(fixture.driver.updates, []);
});

Deno.test("Update is unimplemented where the kind cannot, and for other fields", async () => {
  await using fixture = await startFixture(new MemoryDriver({ updateSandbox: false }));
  await startSandbox(fixture, "a1");
  await refused(
    call(fixture, method.update, updateRequest({ Resources: {} })),
    "Unimplemented",
  );
  const labels = { sandboxId: "a1", fields: ["labels"] };
  await refused(call(fixture, method.update, labels), "Unimplemented", /labels/);
});

Deno.test("Update refuses limits that it cannot read", async () => {
  await using fixture = await startFixture();
  await startSandbox(fixture, "a1");
  for (const json of [7, { Resources: 7 }, { Resources: { cpu_quota: "many" } }]) {
    await refused(
      call(fixture, method.update, updateRequest(json)),
      "InvalidArgument",
      /updated-resources/,
    );
  }
});
