import assert from "node:assert/strict";
import { SandboxError } from "./errors.ts";
import { fixture } from "./testing/fixture.ts";
import { refused } from "./testing/refused.ts";
import { containerSpec, sandboxSpec } from "./testing/specs.ts";

Deno.test("a sandbox that was created is stored and does not run", async () => {
  const world = fixture();
  const { host, disk } = world;
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const { state, pid, createdAt } = world.sandboxer.sandbox("s");
  assert.deepEqual({ state, pid, createdAt }, { state: "created", pid: 0, createdAt: 1.7e12 });
  assert.deepEqual(host.live(), []);
  assert.ok(disk.tree.has("/state/sandboxes/s/record.json"));
  assert.deepEqual(world.told, ["sandbox-created"]);
});

Deno.test("createSandbox() refuses an id that is taken, also while it is being created", async () => {
  const { sandboxer } = fixture();
  const first = sandboxer.createSandbox(sandboxSpec("s"));
  await refused(sandboxer.createSandbox(sandboxSpec("s")), "AlreadyExists");
  await first;
  await refused(sandboxer.createSandbox(sandboxSpec("s")), "AlreadyExists", /"s" already exists/);
});

Deno.test("createSandbox() refuses ids and namespaces that are no names", async () => {
  const { sandboxer } = fixture();
  await refused(
    sandboxer.createSandbox(sandboxSpec("a/b")),
    "InvalidArgument",
    /sandbox id "a\/b"/,
  );
  const spec = sandboxSpec("s", { namespace: ".." });
  await refused(sandboxer.createSandbox(spec), "InvalidArgument", /namespace "\.\."/);
  assert.deepEqual(sandboxer.sandboxes(), []);
});

Deno.test("createSandbox() refuses more sandboxes than the limit", async () => {
  const { sandboxer } = fixture({ limits: { sandboxes: 1 } });
  await sandboxer.createSandbox(sandboxSpec("a"));
  await refused(
    sandboxer.createSandbox(sandboxSpec("b")),
    "ResourceExhausted",
    /cannot create sandbox "b": 1 sandboxes exist, the most allowed/,
  );
});

Deno.test("createSandbox() forgets the sandbox when the disk is full", async () => {
  const world = fixture();
  world.gate.fail("disk.write", new Error("No space left on device (os error 28)"));
  const create = world.sandboxer.createSandbox(sandboxSpec("s"));
  const wait = world.sandboxer.waitSandbox("s");
  await refused(create, "ResourceExhausted");
  await refused(wait, "NotFound", /could not|cannot/);
  assert.deepEqual(world.told, []);
  await world.empty();
});

Deno.test("createSandbox() leaves nothing when the caller gives up", async () => {
  const world = fixture();
  await refused(world.sandboxer.createSandbox(sandboxSpec("s"), AbortSignal.abort()), "Cancelled");
  const abort = new AbortController();
  const hold = world.gate.hold("disk.rename");
  const create = world.sandboxer.createSandbox(sandboxSpec("s"), abort.signal);
  await hold.reached;
  abort.abort();
  hold.release();
  await refused(create, "Cancelled", /cannot create sandbox "s"/);
  await world.empty();
});

Deno.test("a removal that failed is repeated, so that a restart does not bring the sandbox back", async () => {
  const world = fixture();
  world.gate.fail("disk.sync", new Error("broken"));
  world.gate.fail("disk.remove", new Error("broken"));
  await refused(world.sandboxer.createSandbox(sandboxSpec("s")), "Internal");
  assert.equal(world.sandboxer.counts().unwritten, 1);
  assert.ok(world.disk.tree.has("/state/sandboxes/s/record.json"));
  await world.sandboxer.createSandbox(sandboxSpec("other"));
  await world.rest();
  assert.equal(world.sandboxer.counts().unwritten, 0);
  assert.equal(world.disk.tree.has("/state/sandboxes/s"), false);
});

Deno.test("startSandbox() answers with the sandbox as ready", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const view = await world.sandboxer.startSandbox("s");
  assert.equal(view.state, "ready");
  assert.ok(view.pid > 0);
  assert.deepEqual(world.told, ["sandbox-created", "sandbox-started"]);
  assert.deepEqual(world.host.live(), ["sandbox s"]);
});

Deno.test("startSandbox() refuses what is not there and what was started", async () => {
  const world = fixture();
  await refused(world.sandboxer.startSandbox("s"), "NotFound", /sandbox "s" not found/);
  await world.ready("s");
  await refused(
    world.sandboxer.startSandbox("s"),
    "FailedPrecondition",
    /cannot start sandbox "s": it is ready, expected created/,
  );
});

for (const step of ["driver.start", "driver.start-half"]) {
  Deno.test(`startSandbox() forgets the sandbox when the driver fails at ${step}`, async () => {
    const world = fixture();
    await world.sandboxer.createSandbox(sandboxSpec("s"));
    const wait = world.sandboxer.waitSandbox("s");
    world.gate.fail(step, new Error("no more memory"));
    await refused(
      world.sandboxer.startSandbox("s"),
      "Internal",
      /cannot start sandbox "s": no more/,
    );
    const exit = await wait;
    assert.equal(exit.status, 255);
    assert.match(exit.message ?? "", /no more memory/);
    assert.deepEqual(world.told, ["sandbox-created", "sandbox-failed"]);
    await refused(world.sandboxer.waitSandbox("s"), "NotFound");
    await world.empty();
  });
}

Deno.test("startSandbox() does not ask the driver when its record cannot be written", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  world.gate.fail("disk.write", new Error("No space left on device (os error 28)"));
  await refused(world.sandboxer.startSandbox("s"), "ResourceExhausted");
  assert.equal(world.gate.steps.includes("driver.start"), false);
  await world.empty();
});

Deno.test("startSandbox() stops what it has started when that cannot be stored", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const hold = world.gate.hold("driver.start-half");
  const start = world.sandboxer.startSandbox("s");
  await hold.reached;
  world.gate.fail("disk.write", new Error("No space left on device (os error 28)"));
  hold.release();
  await refused(start, "ResourceExhausted");
  assert.ok(world.gate.steps.includes("driver.stop"));
  await world.empty();
});

for (const step of ["disk.write", "driver.start", "driver.start-half"]) {
  Deno.test(`startSandbox() undoes everything when the caller gives up at ${step}`, async () => {
    const world = fixture();
    await world.sandboxer.createSandbox(sandboxSpec("s"));
    const abort = new AbortController();
    const hold = world.gate.hold(step);
    const start = world.sandboxer.startSandbox("s", abort.signal);
    await hold.reached;
    abort.abort(new DOMException("late", "TimeoutError"));
    hold.release();
    await refused(start, "DeadlineExceeded", /cannot start sandbox "s"/);
    await world.empty();
  });
}

Deno.test("startSandbox() undoes everything when the caller gives up while the start is stored", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const abort = new AbortController();
  const started = world.gate.hold("driver.start-half");
  const start = world.sandboxer.startSandbox("s", abort.signal);
  await started.reached;
  const stored = world.gate.hold("disk.write");
  started.release();
  await stored.reached;
  // Not before it is stored: nobody may use what may still be undone.
  assert.equal(world.sandboxer.sandbox("s").state, "starting");
  await refused(
    world.sandboxer.createContainer(containerSpec("c", "s")),
    "FailedPrecondition",
    /it is starting, expected ready/,
  );
  abort.abort();
  stored.release();
  await refused(start, "Cancelled");
  await world.empty();
});

Deno.test("a start that cannot be undone leaves a failed sandbox, which delete releases", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const hold = world.gate.hold("driver.start-half");
  const start = world.sandboxer.startSandbox("s");
  await hold.reached;
  world.gate.fail("disk.write", new Error("broken disk"));
  world.gate.fail("driver.stop", new Error("broken driver"));
  hold.release();
  await refused(start, "Internal", /broken disk/);
  assert.equal(world.sandboxer.sandbox("s").state, "failed");
  assert.equal((await world.sandboxer.waitSandbox("s")).status, 255);
  assert.deepEqual(world.host.live(), ["sandbox s"]);
  assert.match(world.warnings.join(), /cannot undo the start of a sandbox/);

  world.gate.fail("driver.stop", new Error("still broken"));
  await refused(world.sandboxer.deleteSandbox("s"), "Internal", /still broken/);
  await world.sandboxer.deleteSandbox("s");
  assert.deepEqual(world.told, ["sandbox-created", "sandbox-failed", "sandbox-deleted"]);
  await world.empty();
});

Deno.test("a sandbox that ended before its start returned is started, then stopped", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const hold = world.gate.hold("driver.start-half");
  const start = world.sandboxer.startSandbox("s");
  await hold.reached;
  world.endSandbox("s", 9);
  hold.release();
  assert.equal((await start).state, "ready");
  assert.equal((await world.sandboxer.waitSandbox("s")).status, 9);
  assert.deepEqual(world.told, ["sandbox-created", "sandbox-started", "sandbox-stopped"]);
  assert.deepEqual(world.host.live(), []);
});

Deno.test("a start that waits behind a delete finds nothing", async () => {
  const world = fixture();
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  const deleted = world.sandboxer.deleteSandbox("s");
  await refused(world.sandboxer.startSandbox("s"), "NotFound");
  await deleted;
  await world.empty();
});

Deno.test("updateSandbox() needs the ability, a sandbox, and that it is ready", async () => {
  const unable = fixture({ capabilities: { updateSandbox: false } });
  await unable.sandboxer.createSandbox(sandboxSpec("s"));
  await refused(unable.sandboxer.updateSandbox("s", {}), "Unimplemented", /fake sandboxes cannot/);

  const world = fixture();
  await refused(world.sandboxer.updateSandbox("s", {}), "NotFound");
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  await refused(world.sandboxer.updateSandbox("s", {}), "FailedPrecondition");
  await world.sandboxer.startSandbox("s");
  await world.sandboxer.updateSandbox("s", { memoryBytes: 1 });
  assert.ok(world.gate.steps.includes("driver.update-sandbox"));
  world.gate.fail("driver.update-sandbox", new SandboxError("OutOfRange", "too small"));
  await refused(world.sandboxer.updateSandbox("s", {}), "OutOfRange", /too small/);
  const deleted = world.sandboxer.deleteSandbox("s");
  await refused(world.sandboxer.updateSandbox("s", {}), "NotFound");
  await deleted;
});

Deno.test("sandboxStats() measures a ready sandbox only", async () => {
  const world = fixture();
  await refused(world.sandboxer.sandboxStats("s"), "NotFound");
  await world.sandboxer.createSandbox(sandboxSpec("s"));
  await refused(world.sandboxer.sandboxStats("s"), "FailedPrecondition", /cannot measure sandbox/);
  await world.sandboxer.startSandbox("s");
  assert.equal((await world.sandboxer.sandboxStats("s")).memoryBytes, 1);
  world.gate.fail("driver.sandbox-stats", "no cgroup");
  await refused(
    world.sandboxer.sandboxStats("s"),
    "Internal",
    /cannot measure sandbox "s": no cgroup/,
  );
});
