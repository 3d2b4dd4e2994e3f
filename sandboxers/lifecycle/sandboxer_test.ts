import assert from "node:assert/strict";
import { Sandboxer } from "./sandboxer.ts";
import { MemoryStore } from "./store.ts";
import { FakeDriver } from "./testing/fake_driver.ts";
import { FakeMounter } from "./testing/fake_mounter.ts";
import { fixture } from "./testing/fixture.ts";
import { refused } from "./testing/refused.ts";
import { containerSpec, execSpec, sandboxSpec } from "./testing/specs.ts";

Deno.test("a sandboxer without a clock, a log or limits takes the machine's time", async () => {
  const driver = new FakeDriver();
  const sandboxer = new Sandboxer({
    driver,
    store: new MemoryStore(),
    mounter: new FakeMounter(),
  });
  const before = Date.now();
  await sandboxer.createSandbox(sandboxSpec("s"));
  assert.ok(sandboxer.sandbox("s").createdAt >= before);
  assert.equal(sandboxer.driver, driver);
});

Deno.test("an event carries the namespace, the sandbox and the time", async () => {
  const world = fixture();
  world.clock.advance(5);
  await world.sandboxer.createSandbox(sandboxSpec("s", { namespace: "moby" }));
  assert.deepEqual(world.events, [
    { kind: "sandbox-created", namespace: "moby", sandboxId: "s", at: 1_700_000_000_005 },
  ]);
});

Deno.test("a listener that throws disturbs nobody, one that left hears nothing", async () => {
  const world = fixture();
  const heard: string[] = [];
  world.sandboxer.subscribe(() => {
    throw new Error("broken listener");
  });
  const last = world.sandboxer.subscribe((event) => void heard.push(event.kind));
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  last[Symbol.dispose]();
  await world.sandboxer.startSandbox("s");
  assert.deepEqual(heard, ["sandbox-created"]);
  assert.deepEqual(world.told, ["sandbox-created", "sandbox-started"]);
  assert.match(world.warnings.join(), /event listener failed/);
});

Deno.test("a wait that is given up leaves no trace", async () => {
  const world = fixture();
  await world.running("s", "c");
  const abort = new AbortController();
  const waits = [
    world.sandboxer.waitSandbox("s", abort.signal),
    world.sandboxer.waitProcess("c", "", abort.signal),
  ];
  assert.equal(world.sandboxer.counts().waiters, 2);
  abort.abort();
  for (const wait of waits) await refused(wait, "Cancelled", /^wait for (sandbox|container)/);
  assert.equal(world.sandboxer.counts().waiters, 0);
});

Deno.test("close() answers open waits with Unavailable and leaves what runs alone", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.executing("c", "e");
  const waits = [
    world.sandboxer.waitSandbox("s"),
    world.sandboxer.waitProcess("c", ""),
    world.sandboxer.waitProcess("c", "e"),
  ];
  await world.sandboxer.close();
  for (const wait of waits) await refused(wait, "Unavailable", /the fake sandboxer is restarting/);
  assert.deepEqual(world.host.live(), ["sandbox s", "container c", "process c/", "process c/e"]);
  assert.equal(world.sandboxer.sandbox("s").state, "ready");
});

Deno.test("close() does not take back exits that are known", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.ready("other");
  world.end("c", "", 3);
  await world.sandboxer.waitProcess("c", "");
  await world.sandboxer.stopSandbox("other", 0);
  await world.sandboxer.close();
  assert.equal((await world.sandboxer.waitProcess("c", "")).status, 3);
  assert.equal((await world.sandboxer.waitSandbox("other")).status, 0);
  await refused(world.sandboxer.waitSandbox("s"), "Unavailable");
});

Deno.test("after close() nothing new is begun, and no wait hangs", async () => {
  const world = fixture();
  await world.created("s", "c");
  await world.sandboxer.createSandbox(sandboxSpec("later"));
  const hold = world.gate.hold("driver.create-container");
  const late = world.sandboxer.createContainer(containerSpec("late", "s"));
  await hold.reached;
  await world.sandboxer.close();
  await refused(world.sandboxer.createSandbox(sandboxSpec("x")), "Unavailable");
  await refused(world.sandboxer.startSandbox("later"), "Unavailable");
  await refused(world.sandboxer.createContainer(containerSpec("x", "s")), "Unavailable");
  await refused(world.sandboxer.exec("c", execSpec("x")), "Unavailable");
  await refused(world.sandboxer.startProcess("c", ""), "Unavailable");
  hold.release();
  await late;
  await refused(world.sandboxer.waitProcess("late", ""), "Unavailable");
  assert.equal(world.sandboxer.counts().waiters, 0);
});

Deno.test("a start that waits for its turn when the sandboxer closes does not begin", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.sandboxer.exec("c", execSpec("e"));
  const hold = world.gate.hold("driver.pause");
  const pause = world.sandboxer.pauseContainer("c");
  await hold.reached;
  const start = world.sandboxer.startProcess("c", "e");
  const closing = world.sandboxer.close();
  hold.release();
  await Promise.all([pause, closing]);
  await refused(start, "Unavailable");
});

Deno.test("close() writes what could not be written before", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.rest();
  world.gate.fail("disk.write", new Error("No space left on device (os error 28)"));
  world.end("c", "", 3);
  await world.rest();
  assert.equal(world.sandboxer.counts().unwritten, 1);
  await world.sandboxer.close();
  assert.equal(world.sandboxer.counts().unwritten, 0);
  const next = await world.next();
  assert.equal((await next.sandboxer.waitProcess("c", "")).status, 3);
});

Deno.test("counts() tells what is held", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.executing("c", "e");
  await world.rest();
  const hold = world.gate.hold("mount");
  const create = world.sandboxer.createContainer(containerSpec("d", "s"));
  const wait = world.sandboxer.waitProcess("c", "e");
  await hold.reached;
  assert.deepEqual(world.sandboxer.counts(), {
    sandboxes: 1,
    containers: 1,
    creating: 1,
    containerIds: 2,
    execs: 1,
    waiters: 1,
    operations: 0,
    unwritten: 0,
    listeners: 1,
  });
  hold.release();
  await create;
  await world.sandboxer.deleteSandbox("s");
  await wait;
  await world.empty();
});

Deno.test("views of what is not there are NotFound", () => {
  const { sandboxer } = fixture();
  assert.throws(() => sandboxer.sandbox("s"), /sandbox "s" not found/);
  assert.throws(() => sandboxer.container("c"), /container "c" not found/);
  assert.throws(() => sandboxer.process("c", ""), /container "c" not found/);
});

Deno.test("a hundred sandboxes at once do not get in each other's way", async () => {
  const world = fixture();
  const ids = Array.from({ length: 100 }, (_, index) => `s${index}`);
  await Promise.all(ids.map((id) => world.running(id, `c-${id}`)));
  assert.equal(world.host.live().length, 300);
  await Promise.all(ids.map((id) => world.sandboxer.deleteSandbox(id)));
  await world.empty();
});
