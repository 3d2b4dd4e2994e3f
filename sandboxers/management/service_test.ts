import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import {
  type Event,
  ProcessState,
  type Sandbox,
  SandboxState,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { refused } from "../lifecycle/testing/refused.ts";
import { containerSpec, execSpec, sandboxSpec } from "../lifecycle/testing/specs.ts";
import { Managed } from "./fixture.ts";
import { noRuns } from "./no_runs.ts";
import { MANAGED_ANNOTATION, MANAGED_NAMESPACE } from "./ports.ts";

const MANAGED = {
  namespace: MANAGED_NAMESPACE,
  annotations: { [MANAGED_ANNOTATION]: "true" },
};

/** A container that tells a lot about itself. */
async function runRichContainer({ world }: Managed): Promise<void> {
  await world.sandboxer.createSandbox(sandboxSpec("pod", {
    name: "web",
    runtime: "io.containerd.fake.v1",
    labels: { app: "shop" },
    annotations: {
      note: "visible",
      "kubectl.kubernetes.io/last-applied-configuration": "PASSWORD=hidden",
    },
  }));
  await world.sandboxer.startSandbox("pod");
  const plain = containerSpec("main", "pod");
  await world.sandboxer.createContainer({
    ...plain,
    process: { ...plain.process, args: ["serve", "--all"], env: ["PASSWORD=hidden", "A=b"] },
    resources: { memoryBytes: 1000, pids: 7 },
    annotations: {
      "io.kubernetes.cri.container-name": "nginx",
      "io.kubernetes.cri.image-name": "docker.io/library/nginx:1",
    },
  });
  await world.sandboxer.startProcess("main", "");
  await world.sandboxer.exec("main", execSpec("shell"));
  await world.sandboxer.startProcess("main", "shell");
}

Deno.test("Info says who this is and what it can do", async () => {
  await using managed = await Managed.serve({
    abilities: { details: () => ({ engine: "fake 1" }) },
    capabilities: { pause: false },
  });
  await managed.world.ready("a");
  const info = await managed.client.info();
  assert.equal(info.kind, "fake");
  assert.equal(info.version, "1.2.3");
  assert.equal(info.pid, Deno.pid);
  assert.equal(info.startedAt?.seconds, 1000n);
  assert.equal(info.logLevel, "info");
  assert.equal(info.capabilities["exec"], true);
  assert.equal(info.capabilities["pause"], false);
  assert.equal(info.capabilities["snapshot"], false);
  assert.equal(info.counts["sandboxes"], 1n);
  assert.deepEqual(info.details, { engine: "fake 1" });
});

Deno.test("List and Get show pods with containers and processes, without the environment", async () => {
  await using managed = await Managed.serve();
  await runRichContainer(managed);
  const [sandbox] = await managed.client.list();
  assert.ok(sandbox !== undefined);
  assert.equal(sandbox.name, "web");
  assert.equal(sandbox.kind, "fake");
  assert.equal(sandbox.state, SandboxState.READY);
  assert.equal(sandbox.network, "host");
  assert.equal(sandbox.runtime, "io.containerd.fake.v1");
  assert.equal(sandbox.managed, false);
  assert.deepEqual(sandbox.labels, { app: "shop" });
  assert.deepEqual(sandbox.annotations, { note: "visible" });
  const [container] = sandbox.containers;
  assert.equal(container?.name, "nginx");
  assert.equal(container?.image, "docker.io/library/nginx:1");
  assert.equal(container?.state, ProcessState.RUNNING);
  assert.deepEqual(container?.args, ["serve", "--all"]);
  assert.deepEqual(container?.execs.map(({ execId }) => execId), ["shell"]);

  const got = await managed.client.get({ target: "web/nginx" });
  assert.equal(got.containerId, "main");
  assert.equal(got.sandbox?.id, "pod");
  const detail = JSON.parse(got.detailJson);
  assert.deepEqual(detail.containers[0].process.envNames, ["PASSWORD", "A"]);
  assert.ok(!got.detailJson.includes("hidden"));
  await refused(managed.client.get({ target: "nope" }), "NotFound", /"nope" found: there are.*web/);
});

Deno.test("List gives all sandboxes, however many pages that takes, or those asked for", async () => {
  await using managed = await Managed.serve();
  const { sandboxer } = managed.world;
  for (let i = 0; i < 501; i++) {
    const labels = { half: i % 2 === 0 ? "even" : "odd" };
    await sandboxer.createSandbox(sandboxSpec(`s${i}`, { labels, namespace: `n${i % 3}` }));
  }
  const ids = (sandboxes: readonly Sandbox[]) => sandboxes.map(({ id }) => id);
  const listed = ids(await managed.client.list());
  assert.equal(new Set(listed).size, 501);
  assert.deepEqual(listed, [...listed].sort());
  assert.equal((await managed.client.listPage()).sandboxes.length, 500);
  assert.equal((await managed.client.list({ labels: { half: "odd" } })).length, 250);
  assert.equal((await managed.client.list({ namespace: "n0" })).length, 167);
  assert.deepEqual(await managed.client.list({ namespace: "none" }), []);
});

Deno.test("Kill, Wait, Pause, Resume and Update reach the container", async () => {
  await using managed = await Managed.serve();
  await runRichContainer(managed);
  const { client, world: { sandboxer } } = managed;
  await client.pause({ target: "web" });
  assert.equal(sandboxer.container("main").state, "paused");
  await refused(client.pause({ target: "pod" }), "FailedPrecondition", /no container that is run/);
  await client.resume({ target: "nginx" });
  assert.equal(sandboxer.container("main").state, "running");

  await client.update({ target: "web", resources: { cpuMillis: 1500n } });
  assert.deepEqual(sandboxer.container("main").resources, {
    memoryBytes: 1000,
    pids: 7,
    cpuPeriodUs: 100_000,
    cpuQuotaUs: 150_000,
  });
  await client.update({ target: "web", resources: { pids: 9n } });
  assert.equal(sandboxer.container("main").resources.cpuQuotaUs, 150_000);
  await refused(client.update({ target: "web" }), "InvalidArgument", /no limit is given/);

  const waiting = client.wait({ target: "web" });
  await client.kill({ target: "main", signal: 9 });
  assert.equal((await waiting).status, 137);
  await refused(client.kill({ target: "main", signal: 9 }), "NotFound", /already finished/);
});

Deno.test("Stop ends a pod of containerd's so that containerd's wait hears of it", async () => {
  await using managed = await Managed.serve();
  await runRichContainer(managed);
  const { client, world: { sandboxer } } = managed;
  const waited = sandboxer.waitSandbox("pod");
  assert.equal((await client.stop({ target: "web", grace: durationFromMs(0) })).sandboxId, "pod");
  await waited;
  assert.equal(sandboxer.sandbox("pod").state, "stopped");
  await client.stop({ target: "web" });
});

Deno.test("Remove refuses what containerd made, unless forced, and says what to do", async () => {
  await using managed = await Managed.serve();
  await runRichContainer(managed);
  await refused(
    managed.client.remove({ target: "web" }),
    "FailedPrecondition",
    /sandbox "web": containerd made it .* "crictl rmp pod"/,
  );
  await managed.client.remove({ target: "web", force: true });
  assert.deepEqual(managed.world.sandboxer.sandboxes(), []);
});

Deno.test("Remove takes a sandbox of this API when it has ended, and tells who made it", async () => {
  const forgotten: string[] = [];
  await using managed = await Managed.serve({
    runs: () => ({
      handlers: {
        run: () => Promise.reject(new Error("unused")),
        attach: () => assert.fail("unused"),
        logs: () => assert.fail("unused"),
        snapshot: () => Promise.reject(new Error("unused")),
        restore: () => Promise.reject(new Error("unused")),
      },
      recover: () => Promise.resolve(),
      forget: (id) => Promise.resolve(void forgotten.push(id)),
      detail: () => ({ log: "/there" }),
      [Symbol.asyncDispose]: () => Promise.resolve(),
    }),
  });
  const { client, world: { sandboxer } } = managed;
  await sandboxer.createSandbox(sandboxSpec("own", { ...MANAGED, name: "mine" }));
  await sandboxer.startSandbox("own");
  assert.equal((await client.list())[0]?.managed, true);
  assert.match((await client.get({ target: "mine" })).detailJson, /"run":\{"log":"\/there"\}/);
  await refused(client.remove({ target: "mine" }), "FailedPrecondition", /it is ready; stop it/);
  await client.stop({ target: "mine" });
  await client.remove({ target: "mine" });
  assert.deepEqual(forgotten, ["own"]);
});

Deno.test("SetLogLevel changes what is logged from now on", async () => {
  await using managed = await Managed.serve();
  const count = () => managed.logged.filter((line) => line.includes("method=Info")).length;
  await managed.client.info();
  assert.equal(count(), 0);
  assert.equal((await managed.client.setLogLevel({ level: "debug" })).previous, "info");
  const { logLevel } = await managed.client.info();
  assert.equal(logLevel, "debug");
  assert.equal(count(), 1);
  await refused(managed.client.setLogLevel({ level: "loud" }), "InvalidArgument", /"loud".*trace,/);
});

Deno.test("Events are told as they happen, with those that are remembered", async () => {
  await using managed = await Managed.serve();
  await managed.world.ready("early");
  const since = { seconds: 0n, nanos: 0 };
  const types = (events: readonly Event[]) =>
    events.map(({ type, sandboxId }) => `${type} ${sandboxId}`);
  const remembered = await Array.fromAsync(managed.client.events({ since, noFollow: true }));
  assert.deepEqual(types(remembered), ["sandbox-created early", "sandbox-started early"]);
  const told: Event[] = [];
  await managed.world.sandboxer.createSandbox(sandboxSpec("late"));
  for await (const event of managed.client.events({ since, sandboxId: "late" })) {
    told.push(event);
    if (told.length === 1) await managed.world.sandboxer.startSandbox("late");
    if (told.length === 2) break;
  }
  assert.deepEqual(types(told), ["sandbox-created late", "sandbox-started late"]);
});

Deno.test("Stats are measured once, or again and again", async () => {
  await using managed = await Managed.serve();
  await managed.world.running("pod", "main");
  const { client } = managed;
  const [once, ...more] = await Array.fromAsync(client.stats());
  assert.deepEqual(more, []);
  assert.equal(once?.sandboxes[0]?.sandboxId, "pod");
  assert.ok(once?.sandboxes[0]?.usage !== undefined);
  assert.deepEqual(once.sandboxes[0].containers.map((each) => each.containerId), ["main"]);
  let rounds = 0;
  for await (const _ of client.stats({ interval: durationFromMs(100) })) {
    if (++rounds === 3) break;
  }
  assert.equal(rounds, 3);
  const tooOften = client.stats({ interval: durationFromMs(1) });
  await refused(tooOften.next(), "InvalidArgument", /every 1 ms: expected 100 to/);
  await refused(client.stats({ sandboxIds: ["x"] }).next(), "NotFound", /"x"/);
});

Deno.test("streams are bounded in number, and room comes back when one ends", async () => {
  await using managed = await Managed.serve({ streamsMax: 3 });
  const { client, service } = managed;
  const streams = [client.watch(), client.watch(), client.watch()];
  for (const stream of streams) await stream.next();
  await refused(client.watch().next(), "ResourceExhausted", /3 are open/);
  await client.info();
  await streams[0]?.return(undefined);
  while (service.streams === 3) await new Promise((resolve) => setTimeout(resolve, 1));
  const again = client.watch();
  await again.next();
  for (const stream of [...streams, again]) await stream.return(undefined);
});

Deno.test("a stop does not wait for streams: they end with Unavailable", async () => {
  await using managed = await Managed.serve();
  const { client, server } = managed;
  const watches = Array.from({ length: 200 }, () => client.watch());
  for (const watch of watches) await watch.next();
  const events = client.events().next();
  const stats = client.stats({ interval: durationFromMs(3_600_000) });
  await stats.next();
  const ends = [events, stats.next(), ...watches.map((watch) => watch.next())]
    .map((end) => refused(end, "Unavailable", /shutting down|./));
  // Were they waited for, this grace would outlast the test.
  const closed = server.close(3_600_000);
  await Promise.all(ends);
  await closed;
  assert.equal(server.openCalls, 0);
});

Deno.test("garbage on the socket leaves the others alone", async () => {
  await using managed = await Managed.serve();
  await managed.world.ready("a");
  const watch = managed.client.watch();
  await watch.next();
  for (const text of ["GET / HTTP/1.1\r\n\r\n", "\0".repeat(4096), PREFACE + "x".repeat(70_000)]) {
    using connection = await Deno.connect({ transport: "unix", path: managed.path });
    await connection.write(Buffer.from(text)).catch(() => 0);
  }
  using client = managed.connect();
  assert.equal((await client.list()).length, 1);
  await watch.return(undefined);
});

Deno.test("a client that opens its windows wide and does not read is cut off", async () => {
  const { promise: ended, resolve } = Promise.withResolvers<void>();
  await using managed = await Managed.serve({
    runs: (ports) => {
      const runs = noRuns();
      const logs = async function* () {
        try {
          for (;;) yield await Promise.resolve({ content: new Uint8Array(1 << 20) });
        } finally {
          resolve();
        }
      };
      assert.equal(ports.version, "1.2.3");
      return { ...runs, handlers: { ...runs.handlers, logs } };
    },
  });
  using connection = await Deno.connect({ transport: "unix", path: managed.path });
  const window = Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff]);
  const sent = Buffer.concat([
    Buffer.from(PREFACE),
    frame(4, 0, 0, window),
    frame(8, 0, 0, Buffer.from([0x7f, 0, 0, 0])),
    request("Logs", 1),
  ]);
  assert.equal(await connection.write(sent), sent.length);
  await ended;
  assert.deepEqual(await managed.client.list(), []);
});

Deno.test("answers that nobody reads are bounded in number, and gone with their connection", async () => {
  await using managed = await Managed.serve();
  // More than fits a window.
  const labels = { long: "x".repeat(100_000) };
  await managed.world.sandboxer.createSandbox(sandboxSpec("large", { labels }));
  const { client } = managed;
  {
    using connection = await Deno.connect({ transport: "unix", path: managed.path });
    const requests = Array.from({ length: 300 }, (_, i) => request("List", 2 * i + 1));
    const sent = Buffer.concat([
      Buffer.from(PREFACE),
      frame(4, 0, 0, Buffer.alloc(0)),
      ...requests,
    ]);
    assert.equal(await connection.write(sent), sent.length);
    await until(() => client.info().then(() => false, ({ code }) => code === "ResourceExhausted"));
    // What changes something is still done.
    await client.setLogLevel({ level: "warn" });
  }
  await until(() => client.info().then(() => true, () => false));
});

async function until(what: () => Promise<boolean>): Promise<void> {
  while (!await what()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** The frames of a gRPC call with an empty request. */
function request(method: string, stream: number): Buffer {
  const headers = Object.entries({
    ":method": "POST",
    ":scheme": "http",
    ":path": `/quasaur.management.v1.Management/${method}`,
    ":authority": "localhost",
    "te": "trailers",
    "content-type": "application/grpc",
  }).map(([name, value]) =>
    // Literals without indexing. Source: RFC 7541, 6.2.2.
    Buffer.concat([
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value),
    ])
  );
  const message = frame(0, 1, stream, Buffer.alloc(5));
  return Buffer.concat([frame(1, 4, stream, Buffer.concat(headers)), message]);
}

/** An HTTP/2 frame. */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
