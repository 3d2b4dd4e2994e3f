import assert from "node:assert/strict";
import { fixture } from "./testing/fixture.ts";
import { refused } from "./testing/refused.ts";
import { containerSpec, sandboxSpec } from "./testing/specs.ts";

Deno.test("stopSandbox() ends all processes and the sandbox, and tells of the sandbox last", async () => {
  const world = fixture();
  await world.running("s", "a");
  await world.executing("a", "e");
  await world.created("s", "b");
  const waits = [world.sandboxer.waitProcess("a", "e"), world.sandboxer.waitProcess("b", "")];
  const wait = world.sandboxer.waitSandbox("s");
  world.events.length = 0;
  await world.sandboxer.stopSandbox("s", 1000);
  assert.equal(world.told.at(-1), "sandbox-stopped");
  assert.deepEqual(world.told.toSorted(), [
    "process-exited a",
    "process-exited a/e",
    "process-exited b",
    "sandbox-stopped",
  ]);
  // One that ran ended as the driver says; one that never ran is lost with its sandbox.
  const exits = await Promise.all(waits);
  assert.deepEqual(
    exits.map(({ status, reason }) => [status, reason]),
    [[137, "signaled"], [137, "lost"]],
  );
  assert.equal((await wait).status, 0);
  assert.equal(world.sandboxer.sandbox("s").state, "stopped");
  assert.deepEqual(world.sandboxer.sandbox("s").containerIds, ["a", "b"]);
  assert.deepEqual(world.host.live(), []);
  world.obeyed();
});

Deno.test("a sandbox that has ended keeps no root file system mounted", async () => {
  const world = fixture();
  await world.running("stopped", "a");
  await world.running("ended", "b");
  await world.sandboxer.stopSandbox("stopped", 0);
  world.endSandbox("ended", 0);
  await world.rest();
  assert.deepEqual([...world.mounts.targets], []);
  // What cannot be unmounted now is when it is deleted.
  await world.running("held", "c");
  world.gate.fail("unmount", new Error("busy"));
  await world.sandboxer.stopSandbox("held", 0);
  assert.deepEqual([...world.mounts.targets], ["/run/c/rootfs"]);
  assert.match(world.warnings.join(), /cannot unmount/);
  for (const id of ["stopped", "ended", "held"]) await world.sandboxer.deleteSandbox(id);
  await world.empty();
});

Deno.test("who leaves unmounts what ends with it, and nothing else", async () => {
  const world = fixture({ outlives: (sandboxId) => sandboxId === "stays" });
  await world.running("stays", "a");
  await world.running("ends", "b");
  await world.sandboxer.close();
  assert.deepEqual([...world.mounts.targets], ["/run/a/rootfs"]);
  const next = await world.next();
  assert.equal(next.sandboxer.container("a").state, "running");
  assert.equal(next.sandboxer.container("b").state, "stopped");
  for (const id of ["stays", "ends"]) await next.sandboxer.deleteSandbox(id);
  await next.empty();
});

Deno.test("stopSandbox() of a stopped sandbox succeeds and tells nothing", async () => {
  const world = fixture();
  await world.ready("s");
  await world.sandboxer.stopSandbox("s", 0);
  const before = world.told.length;
  await world.sandboxer.stopSandbox("s", 0);
  assert.equal(world.told.length, before);
});

Deno.test("stopSandbox() of two callers stops once", async () => {
  const world = fixture();
  await world.ready("s");
  await Promise.all([world.sandboxer.stopSandbox("s", 0), world.sandboxer.stopSandbox("s", 0)]);
  assert.equal(world.gate.steps.filter((step) => step === "driver.stop").length, 1);
});

Deno.test("stopSandbox() and deleteSandbox() of a missing sandbox are NotFound", async () => {
  const { sandboxer } = fixture();
  await refused(sandboxer.stopSandbox("s", 0), "NotFound");
  await refused(sandboxer.deleteSandbox("s"), "NotFound");
  await refused(sandboxer.waitSandbox("s"), "NotFound");
});

Deno.test("a sandbox that was never started stops without the driver", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  await world.sandboxer.stopSandbox("s", 0);
  assert.equal((await world.sandboxer.waitSandbox("s")).status, 0);
  await refused(world.sandboxer.startSandbox("s"), "FailedPrecondition", /it is stopped/);
});

Deno.test("a stop that the driver refuses can be repeated", async () => {
  const world = fixture();
  await world.running("s", "c");
  world.gate.fail("driver.stop", new Deno.errors.NotFound("socket is gone"));
  await refused(
    world.sandboxer.stopSandbox("s", 0),
    "Internal",
    /cannot stop sandbox "s": socket is gone/,
  );
  assert.equal(world.sandboxer.sandbox("s").state, "stopping");
  assert.equal(world.sandboxer.counts().waiters, 0);
  await world.sandboxer.stopSandbox("s", 0);
  assert.equal(world.sandboxer.sandbox("s").state, "stopped");
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("a sandbox that ends by itself after a stop failed has stopped", async () => {
  const world = fixture();
  await world.ready("s");
  world.gate.fail("driver.stop", new Error("busy"));
  await refused(world.sandboxer.stopSandbox("s", 0), "Internal");
  const wait = world.sandboxer.waitSandbox("s");
  world.endSandbox("s", 4);
  assert.equal((await wait).status, 4);
  assert.deepEqual(world.host.live(), []);
});

Deno.test("stopSandbox() cuts a start short; the sandbox is forgotten", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const hold = world.gate.hold("driver.start-half");
  const start = world.sandboxer.startSandbox("s");
  await hold.reached;
  const stop = world.sandboxer.stopSandbox("s", 0);
  await refused(start, "Cancelled", /start of sandbox "s" was cut short by a stop/);
  await stop;
  hold.release();
  await world.empty();
});

Deno.test("stopSandbox() gives up what is being made in the sandbox before the driver stops it", async () => {
  const world = fixture();
  await world.created("s", "a");
  const making = world.gate.hold("driver.create-container-half");
  const create = world.sandboxer.createContainer(containerSpec("b", "s"));
  const starting = world.gate.hold("driver.start-process-half");
  const start = world.sandboxer.startProcess("a", "");
  await Promise.all([making.reached, starting.reached]);
  const stop = world.sandboxer.stopSandbox("s", 0);
  await refused(create, "FailedPrecondition", /sandbox "s" is being stopped/);
  await refused(start, "FailedPrecondition", /sandbox "s" is being stopped/);
  await stop;
  await refused(world.sandboxer.createContainer(containerSpec("c", "s")), "FailedPrecondition");
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("stopSandbox() waits for a driver that takes no notice, and nothing is left", async () => {
  const world = fixture();
  await world.ready("s");
  const saved = world.gate.hold("disk.write");
  const create = world.sandboxer.createContainer(containerSpec("c", "s"));
  await saved.reached;
  const stop = world.sandboxer.stopSandbox("s", 0);
  await world.rest();
  assert.equal(world.gate.steps.includes("driver.stop"), false);
  saved.release();
  await refused(create, "FailedPrecondition");
  await stop;
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("a caller can give up a stop or a delete until its turn comes", async () => {
  const world = fixture();
  await world.ready("s");
  const hold = world.gate.hold("driver.update-sandbox");
  const update = world.sandboxer.updateSandbox("s", {});
  await hold.reached;
  const abort = new AbortController();
  const stop = world.sandboxer.stopSandbox("s", 0, abort.signal);
  const deleted = world.sandboxer.deleteSandbox("s", abort.signal);
  abort.abort();
  hold.release();
  await update;
  await refused(stop, "Cancelled", /cannot stop sandbox "s"/);
  await refused(deleted, "Cancelled", /cannot delete sandbox "s"/);
  await refused(world.sandboxer.stopSandbox("s", 0, abort.signal), "Cancelled");
  assert.equal(world.sandboxer.sandbox("s").state, "ready");
});

Deno.test("a sandbox that ends by itself takes its containers with it", async () => {
  const world = fixture();
  await world.running("s", "c");
  const waits = [world.sandboxer.waitSandbox("s"), world.sandboxer.waitProcess("c", "")];
  world.endSandbox("s", 7);
  const [sandbox, process] = await Promise.all(waits);
  assert.deepEqual([sandbox?.status, process?.status], [7, 137]);
  assert.equal(world.sandboxer.sandbox("s").state, "stopped");
  assert.deepEqual(world.host.live(), []);
  assert.equal(world.told.filter((kind) => kind === "sandbox-stopped").length, 1);
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("what cannot be released of a sandbox that ended by itself, delete releases", async () => {
  const world = fixture();
  await world.ready("s");
  world.gate.fail("driver.stop", new Error("busy"), new Error("still busy"));
  world.endSandbox("s", 7);
  assert.equal((await world.sandboxer.waitSandbox("s")).status, 7);
  assert.match(world.warnings.join(), /cannot release a sandbox that ended/);
  assert.deepEqual(world.host.live(), ["sandbox s"]);
  await refused(world.sandboxer.deleteSandbox("s"), "Internal", /cannot delete sandbox "s": still/);
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("an exit that the driver loses is still an exit", async () => {
  const world = fixture();
  await world.running("s", "c");
  world.gate.fail("driver.process-exited", new Error("connection closed"));
  world.end("c", "", 3);
  const exit = await world.sandboxer.waitProcess("c", "");
  assert.equal(exit.status, 255);
  assert.match(exit.message ?? "", /the driver lost sight of it: connection closed/);
});

Deno.test("deleteSandbox() stops it, releases its containers and forgets it", async () => {
  const world = fixture();
  await world.running("s", "a");
  await world.created("s", "b");
  await world.sandboxer.deleteSandbox("s");
  assert.deepEqual(world.told.slice(-5), [
    "process-exited b",
    "sandbox-stopped",
    "process-deleted a",
    "process-deleted b",
    "sandbox-deleted",
  ]);
  await refused(world.sandboxer.deleteSandbox("s"), "NotFound");
  await world.empty();
});

Deno.test("deleteSandbox() of two callers succeeds for both", async () => {
  const world = fixture();
  await world.running("s", "c");
  await Promise.all([world.sandboxer.deleteSandbox("s"), world.sandboxer.deleteSandbox("s")]);
  assert.equal(world.told.filter((kind) => kind === "sandbox-deleted").length, 1);
  await world.empty();
});

for (const step of ["driver.stop", "driver.stop-half", "driver.delete-container", "unmount"]) {
  Deno.test(`deleteSandbox() that fails at ${step} can be repeated`, async () => {
    const world = fixture();
    await world.running("s", "c");
    world.gate.fail(step, "broken");
    await refused(world.sandboxer.deleteSandbox("s"), "Internal", /^cannot .*: broken$/);
    assert.equal(world.sandboxer.sandboxes().length, 1);
    await world.sandboxer.deleteSandbox("s");
    await world.empty();
  });
}

Deno.test("deleteSandbox() that cannot remove the record keeps the sandbox, stopped", async () => {
  const world = fixture();
  await world.running("s", "c");
  world.gate.fail("disk.remove", new Error("read-only file system"));
  await refused(world.sandboxer.deleteSandbox("s"), "Internal", /cannot remove the state/);
  assert.equal(world.sandboxer.sandbox("s").state, "stopped");
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("an id can be used again as soon as its sandbox is deleted", async () => {
  const world = fixture();
  for (let round = 0; round < 3; round++) {
    await world.running("s", "c");
    await world.sandboxer.deleteSandbox("s");
  }
  await world.empty();
});

Deno.test("a delete does not take a new sandbox for the one it was asked to delete", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const hold = world.gate.hold("driver.start");
  const start = world.sandboxer.startSandbox("s");
  await hold.reached;
  const deleted = world.sandboxer.deleteSandbox("s");
  await refused(start, "Cancelled");
  hold.release();
  const again = world.sandboxer.createSandbox(sandboxSpec("s")).then(
    () => world.sandboxer.startSandbox("s"),
  );
  await deleted;
  assert.equal((await again).state, "ready");
  assert.equal(world.sandboxer.sandbox("s").state, "ready");
});

Deno.test("a sandbox is deleted while a container is being created in it", async () => {
  const world = fixture();
  await world.ready("s");
  const hold = world.gate.hold("mount");
  const create = world.sandboxer.createContainer(containerSpec("c", "s"));
  await hold.reached;
  const deleted = world.sandboxer.deleteSandbox("s");
  hold.release();
  await refused(create, "FailedPrecondition");
  await deleted;
  await world.empty();
});

Deno.test("deleteUnstarted() deletes what was created long ago and never started, and nothing else", async () => {
  const world = fixture();
  await world.running("runs", "a");
  await world.ready("stopped");
  await world.sandboxer.stopSandbox("stopped", 0);
  await world.sandboxer.createSandbox(sandboxSpec("old"));
  world.clock.advance(10_000);
  await world.sandboxer.createSandbox(sandboxSpec("new"));
  await world.sandboxer.deleteUnstarted(10_000);
  const left = world.sandboxer.sandboxes().map(({ spec }) => spec.id);
  assert.deepEqual(left.toSorted(), ["new", "runs", "stopped"]);
  assert.equal(world.told.at(-1), "sandbox-deleted");
  assert.match(world.warnings.join(), /nobody has started/);
  await refused(world.sandboxer.startSandbox("old"), "NotFound");
  world.obeyed();
});

Deno.test("deleteUnstarted() deletes what was taken over empty and nobody has asked for", async () => {
  const first = fixture();
  // Of the start of one nobody has heard: the process was killed before it could answer.
  for (const id of ["unheard", "waited-for", "used"]) await first.ready(id);
  await first.running("was-used", "a");
  await first.sandboxer.killProcess("a", "", 9, true);
  await first.sandboxer.waitProcess("a", "");
  await first.sandboxer.deleteProcess("a", "");
  const world = await first.next();
  const { sandboxer } = world;
  const waiting = sandboxer.waitSandbox("waited-for");
  await world.created("used", "b");
  await sandboxer.deleteUnstarted(10_000);
  assert.equal(sandboxer.sandboxes().length, 4);
  world.clock.advance(10_000);
  await sandboxer.deleteUnstarted(10_000);
  const left = () => sandboxer.sandboxes().map(({ spec }) => spec.id).toSorted();
  assert.deepEqual(left(), ["used", "waited-for", "was-used"]);
  assert.match(world.warnings.join(), /nobody has asked for/);
  for (const id of left()) await sandboxer.deleteSandbox(id);
  await waiting;
  await world.empty();
});

Deno.test("deleteUnstarted() leaves a sandbox whose start comes first", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  world.clock.advance(10_000);
  const started = world.sandboxer.startSandbox("s");
  await world.sandboxer.deleteUnstarted(10_000);
  assert.equal((await started).state, "ready");
  assert.equal(world.sandboxer.sandbox("s").state, "ready");
  world.obeyed();
});
