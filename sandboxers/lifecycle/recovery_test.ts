import assert from "node:assert/strict";
import type { AdoptableSandbox } from "./driver.ts";
import { FileStore } from "./store.ts";
import { FakeDisk } from "./testing/fake_disk.ts";
import { Fixture, fixture } from "./testing/fixture.ts";
import { refused } from "./testing/refused.ts";
import { containerRecord, processRecord, sandboxRecord } from "./testing/records.ts";
import { containerSpec, execSpec, sandboxSpec } from "./testing/specs.ts";
import type { SandboxRecord } from "./record.ts";

/** Another sandboxer that has not recovered yet, on a machine that it shares with an earlier one. */
function another(earlier: Fixture, options = {}): Fixture {
  return new Fixture(options, earlier);
}

/** Writes records as an earlier sandboxer would have. */
async function stored(world: Fixture, ...records: SandboxRecord[]): Promise<void> {
  const store = new FileStore("/state", new FakeDisk(world.disk));
  for (const record of records) await store.put(record);
}

Deno.test("an empty store recovers nothing", async () => {
  const world = fixture();
  assert.deepEqual(await world.sandboxer.recover(), { adopted: 0, stopped: 0, removed: 0 });
});

Deno.test("a ready sandbox is adopted with the containers that still run", async () => {
  const first = fixture();
  const pid = await first.running("s", "runs");
  const exec = await first.executing("runs", "e");
  await first.running("s", "frozen");
  await first.sandboxer.pauseContainer("frozen");
  await first.created("s", "fresh");
  await first.rest();

  const world = another(first);
  assert.deepEqual(await world.sandboxer.recover(), { adopted: 1, stopped: 0, removed: 0 });
  const { sandboxer } = world;
  assert.equal(sandboxer.sandbox("s").state, "ready");
  assert.equal(sandboxer.sandbox("s").pid, first.sandboxer.sandbox("s").pid);
  assert.equal(sandboxer.sandbox("s").createdAt, 1.7e12);
  assert.deepEqual(
    ["runs", "frozen", "fresh"].map((id) => sandboxer.container(id).state),
    ["running", "paused", "created"],
  );
  assert.equal(sandboxer.process("runs", "").pid, pid);
  assert.equal(sandboxer.process("runs", "e").pid, exec);
  assert.deepEqual(world.told, [], "nothing has happened");

  const waits = [sandboxer.waitProcess("runs", ""), sandboxer.waitProcess("runs", "e")];
  world.end("runs", "e", 4);
  world.end("runs", "", 5);
  assert.deepEqual((await Promise.all(waits)).map(({ status }) => status), [5, 4]);
  assert.ok(await sandboxer.startProcess("fresh", "") > 0);
  await sandboxer.resumeContainer("frozen");
  await sandboxer.createContainer(containerSpec("new", "s"));
  await sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("what was started when its sandboxer was killed is ended by a delete", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.executing("c", "e");
  const world = await first.next();
  const { sandboxer } = world;
  const waits = ["e", ""].map((execId) => sandboxer.waitProcess("c", execId));
  // Its caller, whose start was broken off, does not know that it runs.
  await sandboxer.deleteProcess("c", "e");
  await sandboxer.deleteProcess("c", "");
  assert.deepEqual((await Promise.all(waits)).map(({ status }) => status), [137, 137]);
  await world.running("s", "next");
  await refused(sandboxer.deleteProcess("next", ""), "FailedPrecondition", /kill it first/);
  await sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("an adopted sandbox that ends by itself is noticed", async () => {
  const first = fixture();
  await first.running("s", "c");
  const world = await first.next();
  const wait = world.sandboxer.waitSandbox("s");
  world.endSandbox("s", 6);
  assert.equal((await wait).status, 6);
});

Deno.test("where containers do not outlive the sandboxer they are dead, the sandbox runs on", async () => {
  const first = fixture({ outlives: () => false });
  await first.running("s", "ran");
  await first.executing("ran", "e");
  await first.running("s", "done");
  first.end("done", "", 3);
  await first.sandboxer.waitProcess("done", "");
  const world = await first.next();
  const { sandboxer } = world;
  assert.equal(sandboxer.sandbox("s").state, "ready");
  const lost = await sandboxer.waitProcess("ran", "");
  assert.deepEqual([lost.status, lost.reason], [255, "lost"]);
  assert.equal((await sandboxer.waitProcess("ran", "e")).status, 255);
  assert.equal((await sandboxer.waitProcess("done", "")).status, 3);
  assert.deepEqual([...world.mounts.targets], []);
  // Told once: the exit that the earlier sandboxer told of is not told again.
  assert.deepEqual(world.told.toSorted(), ["process-exited ran", "process-exited ran/e"]);
  assert.ok(world.sandboxer.process("ran", "").pid > 0);
  await refused(sandboxer.killProcess("ran", "", 9), "NotFound");
  assert.equal((await sandboxer.deleteProcess("ran", "")).exit, lost);
  await sandboxer.createContainer(containerSpec("ran", "s"));
  await sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("a process that ended while nobody watched is told of with its own exit", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.rest();
  const world = another(first);
  first.end("c", "", 8);
  await world.sandboxer.recover();
  assert.equal((await world.sandboxer.waitProcess("c", "")).status, 8);
  assert.deepEqual(world.told, ["process-exited c"]);
});

Deno.test("a sandbox that is gone has stopped, and its mounts are taken away", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.rest();
  const world = another(first);
  first.host.powerOff(1);
  assert.deepEqual(await world.sandboxer.recover(), { adopted: 0, stopped: 1, removed: 0 });
  const exit = await world.sandboxer.waitSandbox("s");
  assert.deepEqual([exit.status, exit.reason], [255, "lost"]);
  assert.deepEqual(world.told, ["process-exited c", "sandbox-stopped"]);
  assert.deepEqual([...world.mounts.targets], []);
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("a sandbox that was only created can be started", async () => {
  const first = fixture();
  await first.sandboxer.createSandbox(sandboxSpec("s"));
  const world = await first.next();
  assert.equal((await world.sandboxer.startSandbox("s")).state, "ready");
});

Deno.test("a stopped sandbox keeps its exit until it is deleted, and is not told again", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.sandboxer.stopSandbox("s", 0);
  const exit = await first.sandboxer.waitSandbox("s");
  const world = await first.next();
  assert.deepEqual(await world.sandboxer.waitSandbox("s"), exit);
  assert.equal(world.gate.steps.includes("driver.adopt"), false);
  assert.deepEqual(world.told, []);
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

for (const step of ["driver.start", "driver.start-half"]) {
  Deno.test(`a sandbox whose sandboxer crashed at ${step} is cleaned up`, async () => {
    const first = fixture();
    await first.sandboxer.createSandbox(sandboxSpec("s"));
    const hold = first.gate.hold(step);
    first.sandboxer.startSandbox("s").catch(() => undefined);
    await hold.reached;
    const world = another(first);
    assert.deepEqual(await world.sandboxer.recover(), { adopted: 0, stopped: 0, removed: 1 });
    assert.deepEqual(world.sandboxer.sandboxes(), []);
    await world.empty();
  });
}

Deno.test("a sandbox that was started and not stored as such is stopped", async () => {
  const first = fixture();
  await first.sandboxer.createSandbox(sandboxSpec("s"));
  const started = first.gate.hold("driver.start-half");
  first.sandboxer.startSandbox("s").catch(() => undefined);
  await started.reached;
  const stored = first.gate.hold("disk.write");
  started.release();
  await stored.reached;
  assert.deepEqual(first.host.live(), ["sandbox s"]);
  const world = another(first);
  assert.deepEqual(await world.sandboxer.recover(), { adopted: 0, stopped: 0, removed: 1 });
  await world.empty();
});

Deno.test("a sandbox that could not be started or undone is released at the next start", async () => {
  const first = fixture();
  await first.sandboxer.createSandbox(sandboxSpec("s"));
  const hold = first.gate.hold("driver.start-half");
  const start = first.sandboxer.startSandbox("s");
  await hold.reached;
  first.gate.fail("disk.write", "full");
  first.gate.fail("driver.stop", "busy");
  hold.release();
  await refused(start, "Internal");
  const world = await first.next();
  assert.deepEqual(world.sandboxer.sandboxes(), []);
  await world.empty();
});

Deno.test("a sandbox that cannot be cleaned up stays as failed, and goes at the start after", async () => {
  const first = fixture();
  await stored(first, sandboxRecord("s", { state: "starting" }));
  const world = another(first);
  world.gate.fail("driver.adopt", new Error("no answer"));
  assert.deepEqual(await world.sandboxer.recover(), { adopted: 0, stopped: 1, removed: 0 });
  assert.equal(world.sandboxer.sandbox("s").state, "failed");
  assert.equal((await world.sandboxer.waitSandbox("s")).status, 255);
  const last = await world.next();
  assert.deepEqual(last.sandboxer.sandboxes(), []);
  await last.empty();
});

Deno.test("a sandbox that was being stopped is stopped", async () => {
  const first = fixture();
  await first.running("s", "c");
  first.gate.fail("driver.stop", "busy");
  await refused(first.sandboxer.stopSandbox("s", 0), "Internal");
  const world = await first.next();
  assert.equal(world.sandboxer.sandbox("s").state, "stopped");
  assert.deepEqual(world.host.live(), []);
  assert.deepEqual(world.told, ["process-exited c", "sandbox-stopped"]);
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("a sandbox that cannot be taken over is stopped for callers, and released by delete", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.rest();
  const world = another(first);
  world.gate.fail("driver.adopt", new Error("no answer"));
  assert.deepEqual(await world.sandboxer.recover(), { adopted: 0, stopped: 1, removed: 0 });
  assert.equal(world.sandboxer.sandbox("s").state, "stopped");
  const exit = await world.sandboxer.waitSandbox("s");
  assert.match(exit.message ?? "", /could not be taken over: .*no answer/);
  assert.match(world.warnings.join(), /cannot take over sandbox/);
  // It may still run, on its mounts: they are left until it is released.
  assert.deepEqual([...world.mounts.targets], ["/run/c/rootfs"]);
  assert.deepEqual(world.told, ["process-exited c", "sandbox-stopped"]);

  world.gate.fail("driver.adopt", new Error("still no answer"));
  await refused(world.sandboxer.deleteSandbox("s"), "Internal", /still no answer/);
  world.gate.fail("driver.stop", new Error("busy"));
  await refused(world.sandboxer.deleteSandbox("s"), "Internal", /busy/);
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("what could not be taken over is tried again at the next start", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.rest();
  const second = another(first);
  second.gate.fail("driver.adopt", new Error("no answer"));
  await second.sandboxer.recover();
  const world = await second.next();
  assert.equal(world.sandboxer.sandbox("s").state, "stopped");
  assert.deepEqual(world.host.live(), []);
  assert.deepEqual([...world.mounts.targets], []);
  assert.deepEqual(world.told, [], "it was told already");
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

for (const step of ["mount", "driver.create-container", "driver.create-container-half"]) {
  Deno.test(`a container whose sandboxer crashed at ${step} is undone`, async () => {
    const first = fixture();
    await first.ready("s");
    const hold = first.gate.hold(step);
    first.sandboxer.createContainer(containerSpec("c", "s")).catch(() => undefined);
    await hold.reached;
    const world = another(first);
    await world.sandboxer.recover();
    assert.deepEqual(world.sandboxer.sandbox("s").containerIds, []);
    assert.deepEqual([...world.mounts.targets], []);
    assert.deepEqual(world.host.live(), ["sandbox s"]);
    await world.sandboxer.createContainer(containerSpec("c", "s"));
  });
}

Deno.test("a container that was made and not stored as such is undone", async () => {
  const first = fixture();
  await first.ready("s");
  const made = first.gate.hold("driver.create-container-half");
  first.sandboxer.createContainer(containerSpec("c", "s")).catch(() => undefined);
  await made.reached;
  const saved = first.gate.hold("disk.write");
  made.release();
  await saved.reached;
  const world = another(first);
  await world.sandboxer.recover();
  assert.deepEqual(world.sandboxer.sandbox("s").containerIds, []);
  assert.deepEqual(world.host.live(), ["sandbox s"]);
  assert.deepEqual([...world.mounts.targets], []);
  assert.equal(world.sandboxer.counts().containerIds, 0);
});

Deno.test("a half-made container that cannot be undone stays, stopped, to be deleted", async () => {
  const first = fixture();
  await first.ready("s");
  const hold = first.gate.hold("driver.create-container");
  first.sandboxer.createContainer(containerSpec("c", "s")).catch(() => undefined);
  await hold.reached;
  const world = another(first);
  world.gate.fail("unmount", new Error("busy"));
  await world.sandboxer.recover();
  assert.equal(world.sandboxer.container("c").state, "stopped");
  await world.sandboxer.deleteProcess("c", "");
  assert.deepEqual([...world.mounts.targets], []);
});

Deno.test("a dead container whose mounts cannot be taken away does not stop the others", async () => {
  const options = { outlives: () => false };
  const first = fixture(options);
  await first.running("s", "a");
  await first.running("s", "b");
  await first.rest();
  const world = another(first, options);
  world.gate.fail("unmount", new Error("busy"));
  await world.sandboxer.recover();
  assert.deepEqual(world.sandboxer.sandbox("s").containerIds, ["a", "b"]);
  assert.deepEqual([...world.mounts.targets], ["/run/a/rootfs"]);
  assert.match(world.warnings.join(), /cannot unmount/);
  await world.sandboxer.deleteProcess("a", "");
  assert.deepEqual([...world.mounts.targets], []);
});

Deno.test("one sandbox that cannot be recovered does not stop the others", async () => {
  const first = fixture();
  for (const id of ["a", "b", "c"]) await first.ready(id);
  await first.rest();
  const path = "/state/sandboxes/b/record.json";
  first.disk.change("/state/sandboxes/b", (tree) => tree.set(path, { text: "{" }));
  const world = another(first);
  world.gate.fail("driver.adopt", new Error("no answer"));
  assert.deepEqual(await world.sandboxer.recover(), { adopted: 1, stopped: 1, removed: 1 });
  assert.deepEqual(
    world.sandboxer.sandboxes().map(({ spec, state }) => [spec.id, state]),
    [["a", "stopped"], ["c", "ready"]],
  );
  assert.match(world.warnings.join(), /stored sandbox cannot be read/);
  assert.ok(world.disk.tree.has("/state/damaged/b/record.json"));
});

Deno.test("a state directory that cannot be read stops the start, with the reason", async () => {
  const world = fixture();
  world.gate.fail("disk.list", new Deno.errors.PermissionDenied("os error 13"));
  await refused(world.sandboxer.recover(), "PermissionDenied", /cannot read the state directory/);
});

Deno.test("an exit that was told never changes, even where the driver did not get as far", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.executing("c", "e");
  await first.rest();
  const exit = { status: 143, at: 5, reason: "signaled" } as const;
  const [record] = (await new FileStore("/state", new FakeDisk(first.disk)).load()).records;
  assert.ok(record !== undefined);
  await stored(first, {
    ...record,
    containers: record.containers.map((container) => ({
      ...container,
      state: "stopped",
      processes: [processRecord("", { state: "exited", pid: 0, exit })],
    })),
  });
  const world = another(first);
  await world.sandboxer.recover();
  assert.deepEqual(await world.sandboxer.waitProcess("c", ""), exit);
  await world.rest();
  assert.deepEqual(world.host.live(), ["sandbox s", "container c"]);
  assert.deepEqual(world.told, []);
});

Deno.test("a process that runs and that nobody knows of is killed", async () => {
  const first = fixture();
  const pid = await first.running("s", "c");
  await first.executing("c", "e");
  await first.rest();
  const [record] = (await new FileStore("/state", new FakeDisk(first.disk)).load()).records;
  assert.ok(record !== undefined);
  await stored(first, {
    ...record,
    containers: record.containers.map((container) => ({
      ...container,
      processes: container.processes.filter(({ execId }) => execId === ""),
    })),
  });
  const world = await first.next();
  await world.rest();
  assert.deepEqual(world.host.live(), ["sandbox s", "container c", "process c/"]);
  assert.deepEqual(await world.sandboxer.pids("c"), [pid]);
  assert.deepEqual(world.told, []);
});

Deno.test("a container that is frozen is taken for paused, whatever the store says", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.rest();
  const container = first.host.container("c");
  assert.ok(container !== undefined);
  container.paused = true;
  const world = await first.next();
  assert.equal(world.sandboxer.container("c").state, "paused");
  await world.sandboxer.resumeContainer("c");
});

Deno.test("an exec that was never started is lost with the sandboxer", async () => {
  const first = fixture();
  await first.running("s", "c");
  await first.sandboxer.exec("c", execSpec("e"));
  const world = await first.next();
  assert.equal((await world.sandboxer.waitProcess("c", "e")).status, 255);
  assert.equal(world.sandboxer.container("c").state, "running");
  await world.sandboxer.deleteProcess("c", "e");
  await world.sandboxer.exec("c", execSpec("e"));
});

Deno.test("a driver is told all that the store knows", async () => {
  const world = fixture();
  await stored(
    world,
    sandboxRecord("s", {
      state: "ready",
      driver: { vm: 7 },
      containers: [
        containerRecord("made", "s", { driver: { cgroup: "x" } }),
        containerRecord("half", "s", { state: "creating", processes: [] }),
      ],
    }),
  );
  const asked: AdoptableSandbox[] = [];
  world.driver.adopt = (sandbox) => {
    asked.push(sandbox);
    return Promise.resolve(undefined);
  };
  await world.sandboxer.recover();
  assert.deepEqual(asked, [{
    spec: sandboxSpec("s"),
    record: { vm: 7 },
    containers: [
      { spec: containerSpec("made", "s"), record: { cgroup: "x" }, execs: [] },
      { spec: containerSpec("half", "s"), record: null, execs: [] },
    ],
  }]);
});

Deno.test("a crash in the middle of a recovery loses nothing", async () => {
  const options = { outlives: () => false };
  const first = fixture(options);
  await first.running("s", "a");
  await first.running("s", "b");
  await first.rest();
  const second = another(first, options);
  second.gate.fail("unmount", "busy");
  const hold = second.gate.hold("disk.write");
  second.sandboxer.recover();
  await hold.reached;
  const world = another(second, options);
  await world.sandboxer.recover();
  assert.deepEqual(world.sandboxer.sandbox("s").containerIds, ["a", "b"]);
  assert.deepEqual([...world.mounts.targets], []);
});

Deno.test("what recovery found is stored: the next start finds the same", async () => {
  const options = { outlives: () => false };
  const first = fixture(options);
  await first.running("s", "c");
  const second = await first.next();
  const exit = await second.sandboxer.waitProcess("c", "");
  const third = await second.next();
  assert.deepEqual(await third.sandboxer.waitProcess("c", ""), exit);
  assert.deepEqual(third.told, []);
});

Deno.test("several sandboxes are taken over at a time, and a wedged one holds up nobody", async () => {
  const first = fixture();
  const ids = Array.from({ length: 20 }, (_, index) => `s${index}`);
  for (const id of ids) await first.running(id, `c-${id}`);
  await first.rest();
  const world = another(first);
  const wedged = world.gate.hold("driver.adopt");
  const summary = await world.sandboxer.recover(50);
  assert.deepEqual(summary, { adopted: 19, stopped: 1, removed: 0 });
  assert.deepEqual(world.warnings, ["cannot take over sandbox"]);
  const states = world.sandboxer.sandboxes().map(({ spec, state }) => [spec.id, state] as const);
  const stopped = states.filter(([, state]) => state === "stopped").map(([id]) => id);
  assert.deepEqual(stopped, ["s0"]);
  const { reason, message = "" } = await world.sandboxer.waitSandbox("s0");
  assert.equal(reason, "lost");
  assert.match(message, /could not be taken over: .*not done in 50 ms/);
  // Its delete waits for what was begun, instead of beginning it a second time.
  const deleting = world.sandboxer.deleteSandbox("s0");
  await world.rest();
  assert.equal(world.gate.steps.filter((step) => step === "driver.adopt").length, 20);
  wedged.release();
  await deleting;
  assert.equal(world.host.sandboxes.has("s0"), false);
  for (const id of ids.slice(1)) await world.sandboxer.deleteSandbox(id);
  await world.empty();
});

Deno.test("a wedged sandbox that was being stopped holds up nobody, and can be deleted", async () => {
  const first = fixture();
  await first.running("s", "c");
  const hold = first.gate.hold("driver.stop");
  void first.sandboxer.stopSandbox("s", 0).catch(() => undefined);
  await hold.reached;
  await first.rest();
  await stored(first, sandboxRecord("s", { state: "stopping", left: true }));
  const world = another(first);
  const wedged = world.gate.hold("driver.adopt");
  assert.deepEqual(await world.sandboxer.recover(50), { adopted: 0, stopped: 1, removed: 0 });
  assert.deepEqual(world.warnings, ["cannot release sandbox"]);
  wedged.release();
  await world.sandboxer.deleteSandbox("s");
  assert.equal(world.host.sandboxes.has("s"), false);
});
