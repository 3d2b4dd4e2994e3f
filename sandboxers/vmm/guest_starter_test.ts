import assert from "node:assert/strict";
import { AgentError } from "../../guest/protocol/agent_error.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { GuestRequest } from "./guest_starter.ts";
import { fault, NEVER, podSpec, World } from "./testing/world.ts";

function request(world: World, mustShare = false): GuestRequest {
  const volumes = world.files.volumesOf(`${world.directory}/volumes`);
  return { spec: podSpec(), volumes, mustShare };
}

Deno.test("a guest is made its pod's own before anybody gets it, and released as a whole", async () => {
  await using world = await World.make();
  const { guest, mayShare } = await world.newStarter().start(request(world, true), NEVER);
  assert.equal(mayShare, true);
  assert.equal(guest.hasSharedTree, true);
  assert.equal(world.argumentsOf("setup").length, 1);
  assert.deepEqual(world.argumentsOf("mountShared"), [{ tag: "share" }]);
  assert.equal(world.trees, 1);
  await guest.stop();
  await guest.stop();
  assert.deepEqual(await world.left(), []);
});

Deno.test("a start counts its machine and tells where its time went", async () => {
  await using world = await World.make();
  const { guest } = await world.newStarter().start(request(world), NEVER);
  const text = await world.telemetry.text();
  assert.match(text, /quasaur_vmm_machines_total\{kind="vmm",origin="clone"\} 1/);
  for (const phase of ["machine", "agent", "identity"]) {
    const labels = `kind="vmm",operation="sandbox_start",phase="${phase}"`;
    assert.ok(text.includes(`quasaur_operation_phase_duration_seconds_count{${labels}} 1`), phase);
  }
  await guest.stop();
});

Deno.test("a clone that ends before its agent answers gives way to a machine that boots", async () => {
  await using world = await World.make();
  world.answering = false;
  const held = world.gate.hold("agent");
  const booting = world.gate.hold("boot");
  const starting = world.newStarter().start(request(world), NEVER);
  await held.reached;
  world.running.crash("panic", "the guest's kernel panicked");
  held.release();
  await booting.reached;
  world.answering = true;
  booting.release();
  const { guest } = await starting;
  assert.equal(world.templates.rejected.length, 1);
  assert.ok(world.said("a clone did not become a guest"));
  assert.ok(world.said("panicked"));
  await guest.stop();
  assert.deepEqual(await world.left(), []);
});

Deno.test("a clone that is lost while it is set up gives way to a machine that boots", async () => {
  await using world = await World.make();
  world.handlers = {
    setup: () => {
      if (world.argumentsOf("setup").length === 1) {
        const { agent } = world;
        world.running.crash();
        agent[Symbol.dispose]();
        return new Promise(() => undefined);
      }
      return {};
    },
  };
  const { guest } = await world.newStarter().start(request(world, true), NEVER);
  assert.equal(world.templates.rejected.length, 1);
  assert.equal(world.trees, 1, "the second machine has a file server of its own");
  await guest.stop();
  assert.deepEqual(await world.left(), []);
});

Deno.test("what the agent refuses fails the pod: another machine would not help", async () => {
  await using world = await World.make();
  world.handlers = {
    setup: () => {
      throw new AgentError("InvalidArgument", "no such sysctl");
    },
  };
  const starting = world.newStarter().start(request(world, true), NEVER);
  await assert.rejects(starting, { code: "InvalidArgument", message: "no such sysctl" });
  assert.deepEqual(world.templates.rejected, []);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a guest that ends before it answers fails its pod at once, with its words", async () => {
  await using world = await World.make();
  world.answering = false;
  world.machine = { template: false };
  const held = world.gate.hold("agent");
  const starting = world.newStarter().start(request(world, true), NEVER);
  await held.reached;
  world.running.crash("panic", "no working init found");
  held.release();
  await assert.rejects(starting, {
    code: "Unavailable",
    message: "the guest has ended (panic): no working init found",
  });
  assert.deepEqual(await world.left(), []);
});

for (const step of ["serveTree", "clone", "agent"]) {
  Deno.test(`a caller who gives up during "${step}" leaves nothing, and no doubts`, async () => {
    await using world = await World.make();
    const caller = new AbortController();
    const held = world.gate.hold(step);
    const starting = world.newStarter().start(request(world, true), caller.signal);
    await held.reached;
    caller.abort(new SandboxError("Cancelled", "the caller gave up"));
    held.release(new SandboxError("Cancelled", "the caller gave up"));
    await assert.rejects(starting, { code: "Cancelled" });
    assert.deepEqual(world.templates.rejected, []);
    assert.deepEqual(await world.left(), []);
  });
}

Deno.test("a caller who gives up while the agent does not answer leaves nothing", async () => {
  await using world = await World.make();
  world.answering = false;
  const caller = new AbortController();
  const held = world.gate.hold("agent");
  const starting = world.newStarter().start(request(world), caller.signal);
  await held.reached;
  held.release();
  caller.abort();
  await assert.rejects(starting, { code: "Cancelled" });
  assert.deepEqual(world.templates.rejected, []);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a guest whose release fails in part is released as far as that goes, and again", async () => {
  await using world = await World.make();
  const { guest } = await world.newStarter().start(request(world, true), NEVER);
  world.gate.fail("tree.stop", fault("virtiofsd does not end"));
  await assert.rejects(guest.stop(), /virtiofsd does not end/);
  assert.deepEqual(await world.left(), ["1 trees"]);
  await guest.stop();
  assert.deepEqual(await world.left(), []);
});

Deno.test("a guest is taken over by the next sandboxer", async () => {
  await using world = await World.make();
  const { guest } = await world.newStarter().start(request(world), NEVER);
  const next = await world.next();
  const adopted = await next.newStarter().adopt(guest.record, NEVER);
  assert.equal(adopted?.machine.pid, guest.machine.pid);
  assert.equal(adopted.directory, guest.directory);
  await adopted.stop();
  assert.deepEqual(await next.names("machines"), []);
});

Deno.test("a guest that has ended meanwhile is gone, with all that was left of it", async () => {
  await using world = await World.make();
  const { guest } = await world.newStarter().start(request(world, true), NEVER);
  world.running.crash();
  const next = await world.next();
  next.trees = 1;
  assert.equal(await next.newStarter().adopt(guest.record, NEVER), undefined);
  assert.deepEqual(await next.left(), []);
});

Deno.test("a guest whose agent does not answer the next sandboxer is ended", async () => {
  await using world = await World.make();
  const { guest } = await world.newStarter().start(request(world), NEVER);
  const next = await world.next();
  next.gate.fail("agent", new SandboxError("DeadlineExceeded", "it does not answer"));
  assert.equal(await next.newStarter().adopt(guest.record, NEVER), undefined);
  assert.ok(next.said("ending a guest that cannot be taken over"));
  assert.deepEqual(await next.left(), []);
});
