import assert from "node:assert/strict";
import { type Fixture, fixture } from "./testing/fixture.ts";
import { refused } from "./testing/refused.ts";
import { containerSpec, execSpec, TERMINAL } from "./testing/specs.ts";

/** The process-exited events of a process. */
function exits(world: Fixture, name: string): number {
  return world.told.filter((told) => told === `process-exited ${name}`).length;
}

Deno.test("a process runs, exits once and keeps its exit until it is deleted", async () => {
  const world = fixture();
  const pid = await world.running("s", "c");
  assert.deepEqual(
    [world.sandboxer.process("c", "").state, world.sandboxer.process("c", "").pid],
    ["running", pid],
  );
  const wait = world.sandboxer.waitProcess("c", "");
  world.end("c", "", 3);
  assert.equal((await wait).status, 3);
  assert.equal((await world.sandboxer.waitProcess("c", "")).status, 3);
  assert.equal(world.sandboxer.process("c", "").state, "stopped");
  assert.equal(exits(world, "c"), 1);
  const deleted = await world.sandboxer.deleteProcess("c", "");
  assert.equal(deleted.pid, pid);
  assert.deepEqual(deleted.exit, { status: 3, at: 1.7e12, reason: "exited" });
  await refused(world.sandboxer.waitProcess("c", ""), "NotFound");
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("startProcess() refuses what is not there and what was started", async () => {
  const world = fixture();
  await refused(world.sandboxer.startProcess("c", ""), "NotFound", /container "c" not found/);
  await world.running("s", "c");
  await refused(world.sandboxer.startProcess("c", "e"), "NotFound", /exec "e" of container "c"/);
  await refused(
    world.sandboxer.startProcess("c", ""),
    "FailedPrecondition",
    /cannot start container "c": it is running, expected created/,
  );
});

for (const step of ["driver.start-process", "driver.start-process-half"]) {
  Deno.test(`startProcess() that fails at ${step} can be repeated`, async () => {
    const world = fixture();
    await world.created("s", "c");
    world.gate.fail(step, new Error("no such program"));
    await refused(
      world.sandboxer.startProcess("c", ""),
      "Internal",
      /cannot start container "c": no such program/,
    );
    assert.equal(world.sandboxer.container("c").state, "created");
    assert.ok(await world.sandboxer.startProcess("c", "") > 0);
    world.obeyed();
  });

  Deno.test(`startProcess() that is given up at ${step} leaves no process`, async () => {
    const world = fixture();
    await world.created("s", "c");
    const abort = new AbortController();
    const hold = world.gate.hold(step);
    const start = world.sandboxer.startProcess("c", "", abort.signal);
    await hold.reached;
    abort.abort();
    await refused(start, "Cancelled", /cannot start container "c"/);
    hold.release();
    assert.deepEqual(world.host.live(), ["sandbox s", "container c"]);
    assert.equal(world.sandboxer.process("c", "").state, "created");
  });
}

Deno.test("a start that was given up before its turn does not reach the driver", async () => {
  const world = fixture();
  await world.created("s", "c");
  await refused(world.sandboxer.startProcess("c", "", AbortSignal.abort()), "Cancelled");
  assert.equal(world.gate.steps.includes("driver.start-process"), false);
});

Deno.test("a process that exits before its start returns is started, then exits", async () => {
  const world = fixture();
  await world.created("s", "c");
  const wait = world.sandboxer.waitProcess("c", "");
  const hold = world.gate.hold("driver.start-process-half");
  const start = world.sandboxer.startProcess("c", "");
  await hold.reached;
  world.end("c", "", 0);
  hold.release();
  assert.ok(await start > 0);
  assert.equal((await wait).status, 0);
  assert.deepEqual(world.told.slice(-2), ["process-started c", "process-exited c"]);
});

Deno.test("killing a process that was not started ends it: it can only be deleted", async () => {
  const world = fixture();
  await world.created("s", "c");
  const wait = world.sandboxer.waitProcess("c", "");
  await world.sandboxer.killProcess("c", "", 15);
  assert.deepEqual(await wait, { status: 143, at: 1.7e12, reason: "signaled" });
  assert.equal(world.sandboxer.container("c").state, "stopped");
  assert.equal(world.gate.steps.includes("driver.kill"), false);
  await refused(world.sandboxer.startProcess("c", ""), "FailedPrecondition", /it is exited/);
  assert.equal((await world.sandboxer.deleteProcess("c", "")).pid, 0);
});

Deno.test("signal 0 only asks: a process that was not started stays so", async () => {
  const world = fixture();
  await world.created("s", "c");
  await world.sandboxer.killProcess("c", "", 0);
  assert.equal(world.sandboxer.process("c", "").state, "created");
});

Deno.test("killing a process that is being started cuts the start short", async () => {
  const world = fixture();
  await world.created("s", "c");
  const hold = world.gate.hold("driver.start-process-half");
  const start = world.sandboxer.startProcess("c", "");
  await hold.reached;
  await world.sandboxer.killProcess("c", "", 9);
  assert.equal((await world.sandboxer.waitProcess("c", "")).status, 137);
  await refused(start, "Cancelled", /was killed/);
  hold.release();
  assert.equal(exits(world, "c"), 1);
  await world.sandboxer.deleteProcess("c", "");
  await world.sandboxer.deleteSandbox("s");
  await world.empty();
});

Deno.test("a process that the driver started although it was killed is killed again", async () => {
  const world = fixture({ deaf: true });
  await world.created("s", "c");
  const hold = world.gate.hold("driver.start-process-half");
  const start = world.sandboxer.startProcess("c", "");
  await hold.reached;
  await world.sandboxer.killProcess("c", "", 15);
  assert.deepEqual(world.host.live(), ["sandbox s", "container c", "process c/"]);
  hold.release();
  await refused(
    start,
    "FailedPrecondition",
    /cannot start container "c": it was killed while it started/,
  );
  assert.deepEqual(world.host.live(), ["sandbox s", "container c"]);
  assert.equal((await world.sandboxer.waitProcess("c", "")).status, 143);
  assert.equal(exits(world, "c"), 1);
  assert.equal(world.told.includes("process-started c"), false);
});

Deno.test("killing a process that has ended is NotFound, one of the driver's errors is not", async () => {
  const world = fixture();
  await world.running("s", "c");
  world.gate.fail("driver.kill", new Deno.errors.NotFound("no such cgroup"));
  await refused(world.sandboxer.killProcess("c", "", 9), "Internal", /cannot kill container "c"/);
  await world.sandboxer.killProcess("c", "", 9);
  await world.sandboxer.waitProcess("c", "");
  await refused(world.sandboxer.killProcess("c", "", 9), "NotFound", /process already finished/);
  await refused(world.sandboxer.killProcess("c", "e", 9), "NotFound", /exec "e"/);
  await refused(world.sandboxer.killProcess("x", "", 9), "NotFound", /container "x"/);
});

Deno.test("signals that are none are refused", async () => {
  const world = fixture();
  await world.running("s", "c");
  for (const signal of [-1, 65, 1.5, NaN]) {
    await refused(
      world.sandboxer.killProcess("c", "", signal),
      "InvalidArgument",
      /signal .*, expected 0 to 64/,
    );
  }
});

Deno.test("killing all reaches the execs, also where one cannot be reached", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.executing("c", "a");
  await world.executing("c", "b");
  world.gate.fail("driver.kill", new Error("stuck"));
  await refused(world.sandboxer.killProcess("c", "", 9, true), "Internal", /stuck/);
  await world.rest();
  const states = ["", "a", "b"].map((exec) => world.sandboxer.process("c", exec).state);
  assert.deepEqual(states.toSorted(), ["stopped", "stopped", "stopped"]);
});

Deno.test("killing all of a container whose init has ended still reaches its execs", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.executing("c", "e");
  world.gate.fail("driver.kill", new Error("stuck"));
  world.end("c", "", 0);
  await world.rest();
  assert.match(world.warnings.join(), /cannot kill a process that is not wanted/);
  assert.equal(world.sandboxer.process("c", "e").state, "running");
  await refused(world.sandboxer.killProcess("c", "", 9, true), "NotFound");
  assert.equal((await world.sandboxer.waitProcess("c", "e")).status, 137);
});

Deno.test("an exec is added, started, waited for and deleted", async () => {
  const world = fixture();
  await world.running("s", "c");
  const pid = await world.executing("c", "e");
  assert.deepEqual(world.sandboxer.container("c").execIds, ["e"]);
  world.end("c", "e", 4);
  assert.equal((await world.sandboxer.waitProcess("c", "e")).status, 4);
  assert.deepEqual(await world.sandboxer.deleteProcess("c", "e"), {
    pid,
    exit: { status: 4, at: 1.7e12, reason: "exited" },
  });
  assert.equal(world.sandboxer.container("c").state, "running");
  await refused(world.sandboxer.deleteProcess("c", "e"), "NotFound");
  assert.deepEqual(world.told.slice(-4), [
    "exec-added c",
    "process-started c/e",
    "process-exited c/e",
    "process-deleted c/e",
  ]);
});

Deno.test("exec() refuses what cannot be", async () => {
  const world = fixture({ capabilities: { terminal: false }, limits: { execsPerContainer: 1 } });
  const { sandboxer } = world;
  await refused(sandboxer.exec("c", execSpec("e")), "NotFound");
  await world.created("s", "c");
  await refused(
    sandboxer.exec("c", execSpec("e")),
    "FailedPrecondition",
    /cannot exec in container "c": it is created, expected running/,
  );
  await sandboxer.startProcess("c", "");
  await refused(sandboxer.exec("c", execSpec("a b")), "InvalidArgument", /exec id "a b"/);
  await refused(sandboxer.exec("c", execSpec("")), "InvalidArgument");
  await refused(sandboxer.exec("c", execSpec("e", { stdio: TERMINAL })), "Unimplemented");
  const { process } = execSpec("e");
  await refused(
    sandboxer.exec("c", execSpec("e", { process: { ...process, args: [] } })),
    "InvalidArgument",
    /process.args is empty/,
  );
  await sandboxer.exec("c", execSpec("e"));
  await refused(sandboxer.exec("c", execSpec("e")), "AlreadyExists", /exec "e" of container "c"/);
  await refused(sandboxer.exec("c", execSpec("f")), "ResourceExhausted", /has 1 execs/);
});

Deno.test("exec() is Unimplemented where the driver has none", async () => {
  const world = fixture({ capabilities: { exec: false } });
  await world.running("s", "c");
  await refused(world.sandboxer.exec("c", execSpec("e")), "Unimplemented", /fake sandboxes do not/);
});

Deno.test("the execs of a container end with its init, whatever they were doing", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.executing("c", "runs");
  await world.sandboxer.exec("c", execSpec("waits"));
  await world.sandboxer.exec("c", execSpec("starts"));
  const hold = world.gate.hold("driver.exec-half");
  const start = world.sandboxer.startProcess("c", "starts");
  await hold.reached;
  world.end("c", "", 0);
  const ended = await Promise.all(
    ["runs", "waits", "starts"].map((exec) => world.sandboxer.waitProcess("c", exec)),
  );
  assert.deepEqual(ended.map(({ status }) => status), [137, 137, 137]);
  await refused(start, "Cancelled");
  hold.release();
  await world.rest();
  assert.deepEqual(world.host.live(), ["sandbox s", "container c"]);
  for (const name of ["c", "c/runs", "c/waits", "c/starts"]) assert.equal(exits(world, name), 1);
});

Deno.test("deleteProcess() refuses a process that runs", async () => {
  const world = fixture();
  await world.running("s", "c");
  await world.executing("c", "e");
  await refused(
    world.sandboxer.deleteProcess("c", "e"),
    "FailedPrecondition",
    /cannot delete exec "e" of container "c": it is still running, kill it first/,
  );
  await refused(world.sandboxer.deleteProcess("c", ""), "FailedPrecondition");
  await refused(world.sandboxer.deleteProcess("x", ""), "NotFound");
});

Deno.test("a container that was never started can be deleted; who waits for it is answered", async () => {
  const world = fixture();
  await world.created("s", "c");
  const wait = world.sandboxer.waitProcess("c", "");
  const { pid, exit } = await world.sandboxer.deleteProcess("c", "");
  assert.equal(pid, 0);
  assert.equal(await wait, exit);
  assert.deepEqual(world.told.slice(-2), ["process-exited c", "process-deleted c"]);
});

for (const step of ["driver.delete-container", "unmount"]) {
  Deno.test(`deleteProcess() that fails at ${step} can be repeated, but not undone by a start`, async () => {
    const world = fixture();
    await world.created("s", "c");
    world.gate.fail(step, new Error("busy"));
    await refused(world.sandboxer.deleteProcess("c", ""), "Internal", /container "c": busy/);
    await refused(world.sandboxer.startProcess("c", ""), "FailedPrecondition");
    await world.sandboxer.deleteProcess("c", "");
    assert.equal(exits(world, "c"), 1);
    await world.sandboxer.deleteSandbox("s");
    await world.empty();
  });
}

Deno.test("a container is gone when its delete answers, even if the disk is full", async () => {
  const world = fixture();
  await world.created("s", "c");
  await world.rest();
  const full = new Error("No space left on device (os error 28)");
  // The write of the exit, the write of the delete.
  world.gate.fail("disk.write", full, full);
  await world.sandboxer.deleteProcess("c", "");
  await refused(world.sandboxer.waitProcess("c", ""), "NotFound");
  assert.deepEqual(world.host.live(), ["sandbox s"]);
});

Deno.test("an id is free when no record has it: a crash must not bring back two of it", async () => {
  const world = fixture();
  await world.created("s", "c");
  await world.ready("other");
  await world.rest();
  const full = new Error("No space left on device (os error 28)");
  world.gate.fail("disk.write", full, full);
  await world.sandboxer.deleteProcess("c", "");
  await refused(
    world.sandboxer.createContainer(containerSpec("c", "other")),
    "Unavailable",
    /cannot create container "c": the one before it is still being removed from the store, try/,
  );
  // Being asked for it was enough to have the store try again.
  await world.rest();
  await world.sandboxer.createContainer(containerSpec("c", "other"));
  const next = await world.next();
  assert.equal(next.sandboxer.container("c").spec.sandboxId, "other");
  assert.deepEqual(next.sandboxer.sandbox("s").containerIds, []);
});

Deno.test("two deletes of one container: one succeeds, the other finds nothing", async () => {
  const world = fixture();
  await world.created("s", "c");
  const first = world.sandboxer.deleteProcess("c", "");
  await refused(world.sandboxer.deleteProcess("c", ""), "NotFound");
  await first;
});

Deno.test("an out-of-memory exit is told before the exit itself", async () => {
  const world = fixture();
  await world.running("s", "c");
  world.host.running()[0]?.end({ status: 137, at: 1, reason: "oom" });
  await world.sandboxer.waitProcess("c", "");
  assert.deepEqual(world.told.slice(-2), ["container-oom c", "process-exited c"]);
});

Deno.test("resizeTerminal() needs a process that runs on a terminal", async () => {
  const world = fixture();
  await world.ready("s");
  await world.sandboxer.createContainer(containerSpec("c", "s", { stdio: TERMINAL }));
  await refused(
    world.sandboxer.resizeTerminal("c", "", 80, 24),
    "FailedPrecondition",
    /not started/,
  );
  await world.sandboxer.startProcess("c", "");
  await world.sandboxer.resizeTerminal("c", "", 80, 24);
  world.gate.fail("driver.resize", "no");
  await refused(world.sandboxer.resizeTerminal("c", "", 80, 24), "Internal", /resize the terminal/);
  await world.running("s", "plain");
  await refused(
    world.sandboxer.resizeTerminal("plain", "", 80, 24),
    "FailedPrecondition",
    /cannot resize the terminal of container "plain": it has none/,
  );
});

Deno.test("closeStdin() of a process that does not run succeeds", async () => {
  const world = fixture();
  await world.created("s", "c");
  await world.sandboxer.closeStdin("c", "");
  await world.sandboxer.startProcess("c", "");
  await world.sandboxer.closeStdin("c", "");
  assert.ok(world.gate.steps.includes("driver.close-stdin"));
  world.gate.fail("driver.close-stdin", "broken pipe");
  await refused(world.sandboxer.closeStdin("c", ""), "Internal", /standard input of container "c"/);
  await world.sandboxer.killProcess("c", "", 9);
  await world.sandboxer.waitProcess("c", "");
  await world.sandboxer.closeStdin("c", "");
  await refused(world.sandboxer.closeStdin("c", "e"), "NotFound");
});

Deno.test("a start waits for the disk where containers outlive the sandboxer, and only there", async () => {
  const world = fixture({ outlives: (id) => id === "stays" });
  await world.created("stays", "a");
  await world.created("goes", "b");
  await world.rest();
  const hold = world.gate.hold("disk.write");
  let answered = false;
  const starting = world.sandboxer.startProcess("a", "").then(() => answered = true);
  await hold.reached;
  await world.rest();
  assert.equal(answered, false, "the next sandboxer would not know of the start");
  hold.release();
  await starting;
  const other = world.gate.hold("disk.write");
  await world.sandboxer.startProcess("b", "");
  other.release();
});
