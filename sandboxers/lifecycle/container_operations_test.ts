import assert from "node:assert/strict";
import type { Driver } from "./driver.ts";
import { SandboxError } from "./errors.ts";
import { Sandboxer } from "./sandboxer.ts";
import { MemoryStore } from "./store.ts";
import { fixture } from "./testing/fixture.ts";
import { FakeDriver } from "./testing/fake_driver.ts";
import { FakeMounter } from "./testing/fake_mounter.ts";
import { refused } from "./testing/refused.ts";
import { containerSpec, sandboxSpec, TERMINAL } from "./testing/specs.ts";

Deno.test("a container is recorded, mounted and made, in that order", async () => {
  const world = fixture();
  await world.ready("s");
  world.gate.steps.length = 0;
  await world.sandboxer.createContainer(containerSpec("c", "s"));
  const steps = world.gate.steps.filter((step) => /write|mount|driver/.test(step));
  assert.deepEqual(steps, [
    "disk.write",
    "mount",
    "driver.create-container",
    "driver.create-container-half",
    "disk.write",
  ]);
  const { state, namespace, execIds } = world.sandboxer.container("c");
  assert.deepEqual({ state, namespace, execIds }, {
    state: "created",
    namespace: "k8s.io",
    execIds: [],
  });
  assert.equal(world.sandboxer.process("c", "").state, "created");
  assert.equal(world.told.at(-1), "container-created c");
  assert.deepEqual([...world.mounts.targets], ["/run/c/rootfs"]);
});

Deno.test("a container on a directory needs no mount, and the directory stays the caller's", async () => {
  const world = fixture();
  await world.ready("s");
  const rootfs = { kind: "directory", path: "/rootfs" } as const;
  await world.sandboxer.createContainer(containerSpec("c", "s", { rootfs }));
  await world.sandboxer.deleteProcess("c", "");
  assert.equal(world.gate.steps.some((step) => step.includes("mount")), false);
});

Deno.test("createContainer() refuses what cannot be", async () => {
  const world = fixture({ capabilities: { terminal: false } });
  const { sandboxer } = world;
  await refused(sandboxer.createContainer(containerSpec("c", "s")), "NotFound", /sandbox "s"/);
  await sandboxer.createSandbox(sandboxSpec("s"));
  await refused(
    sandboxer.createContainer(containerSpec("c", "s")),
    "FailedPrecondition",
    /cannot create container "c" in sandbox "s": it is created, expected ready/,
  );
  await sandboxer.startSandbox("s");
  await refused(
    sandboxer.createContainer(containerSpec("../c", "s")),
    "InvalidArgument",
    /container/,
  );
  const { process } = containerSpec("c", "s");
  await refused(
    sandboxer.createContainer(containerSpec("c", "s", { process: { ...process, args: [] } })),
    "InvalidArgument",
    /process.args is empty, expected a command/,
  );
  await refused(
    sandboxer.createContainer(containerSpec("c", "s", { stdio: TERMINAL })),
    "Unimplemented",
    /fake sandboxes have none, set terminal to false/,
  );
  await refused(
    sandboxer.createContainer(containerSpec("c", "s"), AbortSignal.abort()),
    "Cancelled",
  );
  assert.equal(sandboxer.counts().containerIds, 0);
  await sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("createContainer() refuses an id that is taken in any sandbox, also while it is made", async () => {
  const world = fixture();
  await world.ready("s");
  await world.ready("other");
  const first = world.sandboxer.createContainer(containerSpec("c", "s"));
  await refused(world.sandboxer.createContainer(containerSpec("c", "s")), "AlreadyExists");
  await refused(world.sandboxer.createContainer(containerSpec("c", "other")), "AlreadyExists");
  await first;
  await refused(
    world.sandboxer.createContainer(containerSpec("c", "other")),
    "AlreadyExists",
    /container "c" already exists/,
  );
});

Deno.test("createContainer() refuses more containers than the limit, those being made included", async () => {
  const world = fixture({ limits: { containersPerSandbox: 2 } });
  await world.created("s", "a");
  const second = world.sandboxer.createContainer(containerSpec("b", "s"));
  await refused(
    world.sandboxer.createContainer(containerSpec("c", "s")),
    "ResourceExhausted",
    /sandbox "s" holds 2 containers, the most allowed/,
  );
  await second;
});

Deno.test("createContainer() asks the driver first whether it could ever run this", async () => {
  const fake = new FakeDriver();
  const refusals: unknown[] = [
    new SandboxError("Unimplemented", "no components"),
    new Error("odd"),
  ];
  const driver: Driver = {
    kind: "fake",
    capabilities: fake.capabilities,
    start: (spec, signal) => fake.start(spec, signal),
    adopt: (sandbox) => fake.adopt(sandbox),
    validate: () => {
      throw refusals.shift();
    },
  };
  const mounter = new FakeMounter();
  const sandboxer = new Sandboxer({ driver, store: new MemoryStore(), mounter });
  await sandboxer.createSandbox(sandboxSpec("s"));
  await sandboxer.startSandbox("s");
  await refused(
    sandboxer.createContainer(containerSpec("c", "s")),
    "Unimplemented",
    /no components/,
  );
  await refused(
    sandboxer.createContainer(containerSpec("c", "s")),
    "InvalidArgument",
    /cannot create container "c": odd/,
  );
  assert.equal(mounter.mounts.targets.size, 0);
  assert.equal(sandboxer.counts().containerIds, 0);
});

for (
  const step of ["disk.write", "mount", "driver.create-container", "driver.create-container-half"]
) {
  Deno.test(`createContainer() that fails at ${step} leaves nothing`, async () => {
    const world = fixture();
    await world.ready("s");
    world.gate.fail(step, new Error("broken"));
    await refused(world.sandboxer.createContainer(containerSpec("c", "s")), "Internal", /broken/);
    await world.rest();
    await refused(world.sandboxer.waitProcess("c", ""), "NotFound");
    assert.deepEqual(world.host.live(), ["sandbox s"]);
    assert.deepEqual([...world.mounts.targets], []);
    const { creating, containerIds, containers } = world.sandboxer.counts();
    assert.deepEqual({ creating, containerIds, containers }, {
      creating: 0,
      containerIds: 0,
      containers: 0,
    });
    await world.sandboxer.createContainer(containerSpec("c", "s"));
    await world.sandboxer.deleteSandbox("s");
    await world.empty();
  });

  Deno.test(`createContainer() that is given up at ${step} leaves nothing`, async () => {
    const world = fixture();
    await world.ready("s");
    const abort = new AbortController();
    const hold = world.gate.hold(step);
    const create = world.sandboxer.createContainer(containerSpec("c", "s"), abort.signal);
    await hold.reached;
    abort.abort();
    hold.release();
    await refused(create, "Cancelled", /cannot create container "c"/);
    assert.deepEqual(world.host.live(), ["sandbox s"]);
    await world.sandboxer.deleteSandbox("s");
    await world.empty();
  });
}

for (const step of ["driver.delete-container", "unmount"]) {
  Deno.test(`a container that cannot be undone at ${step} stays, stopped, to be deleted`, async () => {
    const world = fixture({ deaf: true });
    await world.ready("s");
    const abort = new AbortController();
    const hold = world.gate.hold("driver.create-container-half");
    const create = world.sandboxer.createContainer(containerSpec("c", "s"), abort.signal);
    await hold.reached;
    abort.abort();
    world.gate.fail(step, new Error("busy"));
    hold.release();
    await refused(create, "Cancelled");
    assert.match(world.warnings.join(), /cannot undo the making of a container/);
    assert.equal(world.sandboxer.container("c").state, "stopped");
    assert.equal((await world.sandboxer.waitProcess("c", "")).status, 255);
    assert.equal(world.told.at(-1), "sandbox-started", "nobody heard of it");
    await refused(world.sandboxer.createContainer(containerSpec("c", "s")), "AlreadyExists");
    await refused(world.sandboxer.startProcess("c", ""), "FailedPrecondition");
    await world.sandboxer.deleteProcess("c", "");
    await world.sandboxer.deleteSandbox("s");
    await world.empty();
  });
}

Deno.test("a container is paused and resumed", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.sandboxer.pauseContainer("c");
  assert.equal(world.sandboxer.container("c").state, "paused");
  assert.equal(world.sandboxer.process("c", "").state, "paused");
  assert.equal(world.host.container("c")?.paused, true);
  await refused(world.sandboxer.pauseContainer("c"), "FailedPrecondition", /it is paused/);
  await world.sandboxer.resumeContainer("c");
  assert.equal(world.sandboxer.container("c").state, "running");
  await refused(
    world.sandboxer.resumeContainer("c"),
    "FailedPrecondition",
    /cannot resume container "c": it is running, expected paused/,
  );
  assert.deepEqual(world.told.slice(-2), ["container-paused c", "container-resumed c"]);
});

Deno.test("a pause that the driver refuses changes nothing", async () => {
  const world = fixture();
  await world.running("s", "c");
  world.gate.fail("driver.pause", "frozen over");
  await refused(
    world.sandboxer.pauseContainer("c"),
    "Internal",
    /cannot pause container "c": frozen/,
  );
  assert.equal(world.sandboxer.container("c").state, "running");
});

Deno.test("a container whose init ends while it is being paused is stopped", async () => {
  const world = fixture();
  await world.running("s", "c");
  const hold = world.gate.hold("driver.pause");
  const pause = world.sandboxer.pauseContainer("c");
  await hold.reached;
  world.end("c", "", 5);
  await world.rest();
  hold.release();
  await pause;
  assert.equal(world.sandboxer.container("c").state, "stopped");
  assert.equal(world.told.includes("container-paused c"), false);
});

Deno.test("a container whose init ends while it is paused is stopped", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.sandboxer.pauseContainer("c");
  await refused(world.sandboxer.deleteProcess("c", ""), "FailedPrecondition", /still running/);
  await world.sandboxer.killProcess("c", "", 9);
  assert.equal((await world.sandboxer.waitProcess("c", "")).status, 137);
  assert.equal(world.sandboxer.container("c").state, "stopped");
  await refused(world.sandboxer.resumeContainer("c"), "FailedPrecondition", /it is stopped/);
});

Deno.test("abilities that the driver lacks are Unimplemented", async () => {
  const world = fixture({ capabilities: { pause: false, updateContainer: false } });
  await world.running("s", "c");
  const cannot = /container "c": fake sandboxes do not support it/;
  await refused(world.sandboxer.pauseContainer("c"), "Unimplemented", cannot);
  await refused(world.sandboxer.resumeContainer("c"), "Unimplemented", cannot);
  await refused(world.sandboxer.updateContainer("c", {}), "Unimplemented", cannot);
  await refused(world.sandboxer.pauseContainer("x"), "NotFound");
  await refused(world.sandboxer.updateContainer("x", {}), "NotFound");
});

Deno.test("updateContainer() changes a container that has not ended", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.sandboxer.updateContainer("c", { memoryBytes: 1 });
  world.gate.fail("driver.update-container", new Error("no such cgroup"));
  await refused(
    world.sandboxer.updateContainer("c", {}),
    "Internal",
    /cannot update container "c"/,
  );
  await world.sandboxer.killProcess("c", "", 9);
  await world.sandboxer.waitProcess("c", "");
  await refused(
    world.sandboxer.updateContainer("c", {}),
    "FailedPrecondition",
    /it is stopped, expected created or running/,
  );
});

Deno.test("pids() and containerStats() answer for a container as long as it is there", async () => {
  const world = fixture();
  const { sandboxer } = world;
  await refused(sandboxer.pids("c"), "NotFound");
  await refused(sandboxer.containerStats("c"), "NotFound");
  const pid = await world.running("s", "c");
  assert.deepEqual(await sandboxer.pids("c"), [pid]);
  assert.equal((await sandboxer.containerStats("c")).cpuNs, 1);
  world.gate.fail("driver.pids", "lost");
  await refused(
    sandboxer.pids("c"),
    "Internal",
    /cannot list the processes of container "c": lost/,
  );
  world.gate.fail("driver.container-stats", "lost");
  await refused(sandboxer.containerStats("c"), "Internal", /cannot measure container "c": lost/);
  await sandboxer.killProcess("c", "", 9);
  await sandboxer.waitProcess("c", "");
  assert.deepEqual(await sandboxer.pids("c"), []);
  assert.equal((await sandboxer.containerStats("c")).cpuNs, 1);
});

Deno.test("an operation that waits behind the delete of its container finds nothing", async () => {
  const world = fixture();
  await world.created("s", "c");
  const deleted = world.sandboxer.deleteProcess("c", "");
  await refused(world.sandboxer.startProcess("c", ""), "NotFound", /container "c" not found/);
  await deleted;
});

Deno.test("new limits of a container are seen, and known to the next sandboxer", async () => {
  const world = fixture();
  await world.running("s", "c");
  assert.deepEqual(world.sandboxer.container("c").resources, {});
  await world.sandboxer.updateContainer("c", { pids: 7 });
  assert.deepEqual(world.sandboxer.container("c").resources, { pids: 7 });
  assert.deepEqual(world.sandboxer.container("c").spec.resources, {});
  world.gate.fail("driver.update-container", "refused");
  await refused(world.sandboxer.updateContainer("c", { pids: 8 }), "Internal", /refused/);
  const next = await world.next();
  assert.deepEqual(next.sandboxer.container("c").resources, { pids: 7 });
});
