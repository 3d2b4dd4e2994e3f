import { fromBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import assert from "node:assert/strict";
import { Task } from "../proto/gen/containerd/task/v3/shim_pb.ts";
import { Status } from "../proto/gen/containerd/v1/types/task_pb.ts";
import { MetricsSchema } from "../proto/gen/io/containerd/cgroups/v2/metrics_pb.ts";
import { refused } from "../sandboxers/lifecycle/testing/refused.ts";
import { until } from "./testing/until.ts";
import { startTaskWorld, type TaskWorld } from "./testing/task_world.ts";
import { TtrpcClient } from "./ttrpc/client.ts";

const method = Task.method;
const PROCESS_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/Process";
const RESOURCES_TYPE = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

function any(typeUrl: string, value: unknown): { typeUrl: string; value: Uint8Array } {
  return { typeUrl, value: new TextEncoder().encode(JSON.stringify(value)) };
}

/** Creates a container, and starts it unless told otherwise. */
async function makeContainer(world: TaskWorld, id = "c1", start = true): Promise<void> {
  await world.client.call(method.create, {
    id,
    bundle: await world.bundle(id),
    stdout: "/run/out",
    stderr: "/run/err",
  });
  if (start) await world.client.call(method.start, { id });
}

async function addExec(world: TaskWorld, execId: string): Promise<void> {
  const spec = any(PROCESS_TYPE, { args: ["ls", "-l"], cwd: "/tmp", env: ["A=1"] });
  await world.client.call(method.exec, { id: "c1", execId, spec, stdin: "/run/in" });
}

Deno.test("a container goes through create, start, wait and delete", async () => {
  await using world = await startTaskWorld();
  const { client, driver } = world;
  const bundle = await world.bundle("c1");
  const created = await client.call(method.create, {
    id: "c1",
    bundle,
    stdout: "/run/out",
    terminal: true,
  });
  assert.equal(created.pid, 0);
  const before = await client.call(method.state, { id: "c1" });
  assert.equal(before.status, Status.CREATED);
  assert.deepEqual([before.id, before.bundle, before.stdout], ["c1", bundle, "/run/out"]);
  assert.deepEqual([before.stdin, before.stderr, before.terminal], ["", "", true]);
  assert.equal(before.exitedAt, undefined);

  const waiting = client.call(method.wait, { id: "c1" });
  const { pid } = await client.call(method.start, { id: "c1" });
  const running = await client.call(method.state, { id: "c1" });
  assert.deepEqual([running.status, running.pid], [Status.RUNNING, pid]);
  await refused(client.call(method.delete, { id: "c1" }), "FailedPrecondition");

  driver.running("c1").exit(7);
  const exit = await waiting;
  assert.equal(exit.exitStatus, 7);
  assert.equal(exit.exitedAt && timestampMs(exit.exitedAt), 1_700_000_000_123);
  assert.deepEqual(await client.call(method.wait, { id: "c1" }), exit, "it stays known");
  const after = await client.call(method.state, { id: "c1" });
  assert.deepEqual([after.status, after.exitStatus, after.pid], [Status.STOPPED, 7, pid]);
  assert.deepEqual(after.exitedAt, exit.exitedAt);

  const deleted = await client.call(method.delete, { id: "c1" });
  assert.deepEqual([deleted.pid, deleted.exitStatus], [pid, 7]);
  assert.deepEqual(deleted.exitedAt, exit.exitedAt);
  await refused(client.call(method.delete, { id: "c1" }), "NotFound");
  await refused(client.call(method.state, { id: "c1" }), "NotFound");
});

Deno.test("the driver gets what the bundle says", async () => {
  await using world = await startTaskWorld();
  await makeContainer(world);
  const spec = world.driver.containers.get("c1");
  assert.deepEqual(spec?.process.args, ["/app.wasm", "--flag"]);
  assert.equal(spec?.sandboxId, "sb1");
});

Deno.test("create: sandbox unknown, id taken, bundle bad", async () => {
  await using world = await startTaskWorld();
  const { client } = world;
  const lost = await world.bundle("c9", { sandboxId: "nobody" });
  await refused(client.call(method.create, { id: "c9", bundle: lost }), "NotFound", /nobody/);
  await makeContainer(world);
  const bundle = await world.bundle("c1");
  await refused(client.call(method.create, { id: "c1", bundle }), "AlreadyExists");
  const bad = client.call(method.create, { id: "c2", bundle: "/nonexistent" });
  await refused(bad, "InvalidArgument", /bundle "\/nonexistent" is not there/);
});

Deno.test("create is never answered with Unimplemented, which containerd would hide", async () => {
  await using world = await startTaskWorld({ terminal: false });
  const bundle = await world.bundle("c1");
  const call = world.client.call(method.create, { id: "c1", bundle, terminal: true });
  await refused(call, "FailedPrecondition", /terminal/);
});

Deno.test("start: twice, after the exit, unknown", async () => {
  await using world = await startTaskWorld();
  const { client } = world;
  await makeContainer(world);
  await refused(client.call(method.start, { id: "c1" }), "FailedPrecondition");
  world.driver.running("c1").exit(0);
  await client.call(method.wait, { id: "c1" });
  await refused(client.call(method.start, { id: "c1" }), "FailedPrecondition");
  await refused(client.call(method.start, { id: "c2" }), "NotFound");
});

Deno.test("a start whose deadline passes is answered and undone", async () => {
  await using world = await startTaskWorld();
  const { client, driver } = world;
  await makeContainer(world, "c1", false);
  driver.startGate = new Promise(() => undefined);
  const start = client.call(method.start, { id: "c1" }, { timeoutMs: 20 });
  await refused(start, "DeadlineExceeded");
  driver.startGate = undefined;
  const state = await client.call(method.state, { id: "c1" });
  assert.notEqual(state.status, Status.RUNNING);
});

Deno.test("kill sends the signal, also to all, and is NotFound once the process has ended", async () => {
  await using world = await startTaskWorld();
  const { client, driver } = world;
  await makeContainer(world);
  await addExec(world, "e1");
  await client.call(method.start, { id: "c1", execId: "e1" });
  await client.call(method.kill, { id: "c1", signal: 10 });
  assert.deepEqual(driver.running("c1").signals, [10]);
  assert.deepEqual(driver.running("c1", "e1").signals, []);
  await client.call(method.kill, { id: "c1", execId: "e1", signal: 12 });
  assert.deepEqual(driver.running("c1", "e1").signals, [12]);
  await client.call(method.kill, { id: "c1", signal: 9, all: true });
  assert.equal((await client.call(method.wait, { id: "c1" })).exitStatus, 137);
  assert.deepEqual(driver.running("c1", "e1").signals.slice(0, 2), [12, 9]);
  await refused(client.call(method.kill, { id: "c1", signal: 9 }), "NotFound");
  await refused(client.call(method.kill, { id: "c1", execId: "no", signal: 9 }), "NotFound");
  await refused(client.call(method.kill, { id: "c1", signal: 65 }), "InvalidArgument");
});

Deno.test("a created container can be killed and deleted", async () => {
  await using world = await startTaskWorld();
  const { client } = world;
  await makeContainer(world, "c1", false);
  await client.call(method.kill, { id: "c1", signal: 9 });
  assert.equal((await client.call(method.wait, { id: "c1" })).exitStatus, 137);
  await client.call(method.delete, { id: "c1" });
  await makeContainer(world, "c2", false);
  const deleted = await client.call(method.delete, { id: "c2" });
  assert.equal(deleted.pid, 0);
});

Deno.test("an exec runs beside the init process", async () => {
  await using world = await startTaskWorld();
  const { client, driver } = world;
  await makeContainer(world);
  await addExec(world, "e1");
  const created = await client.call(method.state, { id: "c1", execId: "e1" });
  assert.deepEqual([created.id, created.execId, created.stdin], ["e1", "e1", "/run/in"]);
  assert.equal(created.status, Status.CREATED);
  const { pid } = await client.call(method.start, { id: "c1", execId: "e1" });
  assert.deepEqual(driver.execs.get("c1/e1")?.process, {
    args: ["ls", "-l"],
    cwd: "/tmp",
    env: ["A=1"],
    user: { uid: 0, gid: 0, additionalGids: [] },
  });
  const { processes } = await client.call(method.pids, { id: "c1" });
  assert.ok(processes.some((process) => process.pid === pid));
  assert.equal(processes.length, 2);
  driver.running("c1", "e1").exit(3);
  assert.equal((await client.call(method.wait, { id: "c1", execId: "e1" })).exitStatus, 3);
  const deleted = await client.call(method.delete, { id: "c1", execId: "e1" });
  assert.deepEqual([deleted.pid, deleted.exitStatus], [pid, 3]);
  await refused(client.call(method.state, { id: "c1", execId: "e1" }), "NotFound");
  assert.equal((await client.call(method.state, { id: "c1" })).status, Status.RUNNING);
});

Deno.test("an exec keeps what it may do and use", async () => {
  await using world = await startTaskWorld();
  const { client, driver } = world;
  await makeContainer(world);
  const process = {
    args: ["id"],
    user: { uid: 1, gid: 2, umask: 0o77 },
    capabilities: { bounding: ["CAP_CHOWN"], effective: ["CAP_CHOWN"] },
    noNewPrivileges: true,
    oomScoreAdj: -5,
  };
  // No limit, as Go writes it.
  const rlimits = `,"rlimits":[{"type":"RLIMIT_NOFILE","soft":100,"hard":18446744073709551615}]}`;
  const value = new TextEncoder().encode(JSON.stringify(process).replace(/}$/, rlimits));
  const spec = { typeUrl: PROCESS_TYPE, value };
  await client.call(method.exec, { id: "c1", execId: "e1", spec });
  await client.call(method.start, { id: "c1", execId: "e1" });
  assert.deepEqual(driver.execs.get("c1/e1")?.process, {
    args: ["id"],
    cwd: "/",
    env: [],
    user: { uid: 1, gid: 2, additionalGids: [] },
    descriptorsMax: 100,
    capabilities: {
      bounding: ["CAP_CHOWN"],
      effective: ["CAP_CHOWN"],
      inheritable: [],
      permitted: [],
      ambient: [],
    },
    noNewPrivileges: true,
    rlimits: [{ type: "RLIMIT_NOFILE", soft: 100, hard: -1 }],
    umask: 0o77,
    oomScoreAdjust: -5,
  });
});

Deno.test("exec: id taken or bad, container not running, spec bad", async () => {
  await using world = await startTaskWorld();
  const { client } = world;
  await makeContainer(world, "c1", false);
  await refused(addExec(world, "e1"), "FailedPrecondition");
  await client.call(method.start, { id: "c1" });
  await addExec(world, "e1");
  await refused(addExec(world, "e1"), "AlreadyExists");
  await refused(addExec(world, "../e"), "InvalidArgument", /exec id/);
  await refused(addExec(world, ""), "InvalidArgument", /exec id/);
  const exec = (spec?: { typeUrl: string; value: Uint8Array }, stdout = "") =>
    client.call(method.exec, { id: "c1", execId: "e2", stdout, ...(spec ? { spec } : {}) });
  await refused(exec(), "InvalidArgument", /exec spec: found nothing, expected type/);
  await refused(exec(any(RESOURCES_TYPE, {})), "InvalidArgument", /found ".*LinuxResources"/);
  await refused(exec(any(PROCESS_TYPE, {})), "InvalidArgument", /args is missing/);
  const garbage = { typeUrl: PROCESS_TYPE, value: new Uint8Array([0xff, 0x7b]) };
  await refused(exec(garbage), "InvalidArgument", /exec spec: it is not UTF-8 text/);
  const cut = { typeUrl: PROCESS_TYPE, value: new Uint8Array([0x7b]) };
  await refused(exec(cut), "InvalidArgument", /exec spec: it is not JSON/);
  const good = any(PROCESS_TYPE, { args: ["a"] });
  await refused(exec(good, "binary:///x"), "InvalidArgument", /stdout/);
});

Deno.test("a wait ends when its caller closes the connection", async () => {
  await using world = await startTaskWorld();
  await makeContainer(world);
  const other = await world.connect();
  const waiting = other.call(method.wait, { id: "c1" });
  await until(() => world.server.openCalls > 0);
  other.close();
  await refused(waiting, "Unavailable");
  await until(() => world.server.openCalls === 0);
  world.driver.running("c1").exit(0);
  assert.equal((await world.client.call(method.wait, { id: "c1" })).exitStatus, 0);
});

Deno.test("waits end with the sandbox, and what is known stays known", async () => {
  await using world = await startTaskWorld();
  await makeContainer(world);
  await makeContainer(world, "c2");
  const waiting = world.client.call(method.wait, { id: "c1" });
  const stop = world.sandboxer.stopSandbox("sb1", 0);
  assert.equal((await waiting).exitStatus, 137);
  await stop;
  await world.sandboxer.close();
  const exited = await world.client.call(method.wait, { id: "c2" });
  assert.equal(exited.exitStatus, 137);
});

Deno.test("an open wait is Unavailable when the sandboxer leaves", async () => {
  await using world = await startTaskWorld();
  await makeContainer(world);
  const waiting = refused(world.client.call(method.wait, { id: "c1" }), "Unavailable");
  await until(() => world.server.openCalls > 0);
  await world.sandboxer.close();
  await waiting;
});

Deno.test("pause and resume change the state", async () => {
  await using world = await startTaskWorld();
  const { client } = world;
  await makeContainer(world);
  await client.call(method.pause, { id: "c1" });
  assert.equal((await client.call(method.state, { id: "c1" })).status, Status.PAUSED);
  await refused(client.call(method.pause, { id: "c1" }), "FailedPrecondition");
  await client.call(method.resume, { id: "c1" });
  assert.equal((await client.call(method.state, { id: "c1" })).status, Status.RUNNING);
});

Deno.test("what a kind of sandbox cannot do is Unimplemented", async () => {
  await using world = await startTaskWorld({ pause: false, updateContainer: false, exec: false });
  const { client } = world;
  await makeContainer(world);
  await refused(client.call(method.pause, { id: "c1" }), "Unimplemented");
  const resources = any(RESOURCES_TYPE, {});
  await refused(client.call(method.update, { id: "c1", resources }), "Unimplemented");
  await refused(addExec(world, "e1"), "Unimplemented");
  await refused(client.call(method.checkpoint, { id: "c1" }), "Unimplemented", /checkpoint/);
});

Deno.test("update decodes the limits", async () => {
  await using world = await startTaskWorld();
  const { client } = world;
  await makeContainer(world);
  const resources = any(RESOURCES_TYPE, { memory: { limit: 1048576 }, cpu: { shares: 2 } });
  await client.call(method.update, { id: "c1", resources });
  assert.deepEqual(world.driver.updates, [{ memoryBytes: 1048576, cpuShares: 2 }]);
  await refused(client.call(method.update, { id: "c1" }), "InvalidArgument", /found nothing/);
  const bad = any(RESOURCES_TYPE, { memory: { limit: "1G" } });
  const call = client.call(method.update, { id: "c1", resources: bad });
  await refused(call, "InvalidArgument", /resources: memory\.limit: found "1G"/);
});

Deno.test("stats are cgroup v2 metrics with a bare type name", async () => {
  await using world = await startTaskWorld();
  await makeContainer(world);
  const { stats } = await world.client.call(method.stats, { id: "c1" });
  assert.equal(stats?.typeUrl, "io.containerd.cgroups.v2.Metrics");
  const metrics = fromBinary(MetricsSchema, stats?.value ?? new Uint8Array());
  assert.equal(metrics.cpu?.usageUsec, 5000n);
  assert.deepEqual([metrics.memory?.usage, metrics.memory?.usageLimit], [4096n, 8192n]);
  assert.equal(metrics.pids?.current, 2n);
});

Deno.test("terminals are resized and stdin is closed", async () => {
  await using world = await startTaskWorld();
  const { client, driver } = world;
  const bundle = await world.bundle("c1");
  await client.call(method.create, { id: "c1", bundle, terminal: true });
  await client.call(method.start, { id: "c1" });
  await client.call(method.resizePty, { id: "c1", width: 120, height: 40 });
  assert.deepEqual(driver.running("c1").sizes, [[120, 40]]);
  await client.call(method.closeIO, { id: "c1", stdin: false });
  assert.equal(driver.running("c1").stdinClosed, false);
  await client.call(method.closeIO, { id: "c1", stdin: true });
  assert.equal(driver.running("c1").stdinClosed, true);
});

Deno.test("connect tells the pids, and shutdown leaves everything alone", async () => {
  await using world = await startTaskWorld();
  const { client } = world;
  await makeContainer(world, "c1", false);
  assert.equal((await client.call(method.connect, { id: "c1" })).taskPid, 0);
  const { pid } = await client.call(method.start, { id: "c1" });
  const connected = await client.call(method.connect, { id: "c1" });
  assert.deepEqual([connected.shimPid, connected.taskPid], [42, pid]);
  await client.call(method.shutdown, { id: "c1", now: true });
  assert.equal((await client.call(method.state, { id: "c1" })).status, Status.RUNNING);
  await refused(client.call(method.connect, { id: "c2" }), "NotFound");
});

/** Every call that is about a container. */
const CALLS: readonly ((client: TtrpcClient) => Promise<unknown>)[] = [
  (client) => client.call(method.state, { id: "c1" }),
  (client) => client.call(method.start, { id: "c1" }),
  (client) => client.call(method.delete, { id: "c1" }),
  (client) => client.call(method.pids, { id: "c1" }),
  (client) => client.call(method.pause, { id: "c1" }),
  (client) => client.call(method.resume, { id: "c1" }),
  (client) => client.call(method.checkpoint, { id: "c1" }),
  (client) => client.call(method.kill, { id: "c1", signal: 9 }),
  (client) => client.call(method.exec, { id: "c1", execId: "e1" }),
  (client) => client.call(method.resizePty, { id: "c1" }),
  (client) => client.call(method.closeIO, { id: "c1", stdin: true }),
  (client) => client.call(method.update, { id: "c1" }),
  (client) => client.call(method.wait, { id: "c1" }),
  (client) => client.call(method.stats, { id: "c1" }),
  (client) => client.call(method.connect, { id: "c1" }),
];

Deno.test("to another namespace a container does not exist", async () => {
  await using world = await startTaskWorld();
  await makeContainer(world);
  const other = await world.connect("moby");
  for (const call of CALLS) await refused(call(other), "NotFound", /container "c1" not found/);
  const bundle = await world.bundle("c2");
  const create = other.call(method.create, { id: "c2", bundle });
  await refused(create, "NotFound", /sandbox "sb1" not found/);
  assert.deepEqual(world.driver.running("c1").signals, []);
  assert.equal((await world.client.call(method.state, { id: "c1" })).status, Status.RUNNING);
});

Deno.test("a call without a namespace is refused with the name of what is missing", async () => {
  await using world = await startTaskWorld();
  await makeContainer(world);
  using bare = await TtrpcClient.connect(world.socket);
  for (const call of CALLS) {
    await refused(call(bare), "FailedPrecondition", /containerd-namespace-ttrpc/);
  }
  const bundle = await world.bundle("c2");
  await refused(bare.call(method.create, { id: "c2", bundle }), "FailedPrecondition");
});
