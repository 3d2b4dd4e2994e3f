import assert from "node:assert/strict";
import { SandboxError } from "../lifecycle/errors.ts";
import { defaultVmmConfig } from "./config/load.ts";
import { machineFor, type PodMachine } from "./config/machine.ts";
import { BadClone, type ReadyMachine } from "./machines.ts";
import { fault, NEVER, podSpec, World } from "./testing/world.ts";

/** The machine of an ordinary pod. */
function podMachine(changes: Partial<PodMachine> = {}): PodMachine {
  const machine = machineFor(defaultVmmConfig(), podSpec(), { accelerator: "tcg", cpus: 1 });
  return { ...machine, ...changes };
}

function request(changes: Partial<PodMachine> = {}) {
  return { machine: podMachine(changes), cgroup: "/pods/pod" };
}

/** A machine with a shared tree. */
function shared() {
  const machine = podMachine();
  return {
    machine: { ...machine, spec: { ...machine.spec, sharedTree: true } },
    cgroup: "",
    sharedTreeSocket: "/tree.sock",
  };
}

/** A paused clone as the pool has it. */
async function pooled(world: World): Promise<ReadyMachine> {
  const { spec } = podMachine();
  const saved = { directory: `${world.directory}/template`, spec };
  const place = await world.places.make("");
  const machine = await world.hypervisor.clone?.(
    saved,
    place,
    { paused: true, memory: "private" },
    NEVER,
  );
  assert.ok(machine !== undefined);
  return { machine, place, saved };
}

Deno.test("a machine is taken from the pool, let run, and put into the pod's cgroup", async () => {
  await using world = await World.make();
  const ready = await pooled(world);
  const machines = world.newMachines({ ready: { take: () => ready } });
  const { machine, place, origin } = await machines.get(request(), NEVER);
  assert.equal(origin, "pool");
  assert.equal(machine, ready.machine);
  assert.equal(world.running.paused, false);
  assert.ok(world.gate.steps.includes("joinCgroup"));
  assert.equal(place.cgroup, "/pods/pod", "the cgroup goes with the place");
});

for (const step of ["resume", "joinCgroup"]) {
  Deno.test(`a pooled machine whose "${step}" fails is ended, and a template is cloned`, async () => {
    await using world = await World.make();
    const ready = await pooled(world);
    world.gate.fail(step, fault());
    const machines = world.newMachines({ ready: { take: () => ready } });
    const { origin, machine, place } = await machines.get(request(), NEVER);
    assert.equal(origin, "clone");
    assert.equal(world.running, machine, "the pooled one has ended");
    assert.deepEqual(await world.names("machines"), [place.id]);
    assert.ok(world.said("a machine that was kept ready cannot be used"));
  });
}

Deno.test("without a template that can be had, a machine is booted", async () => {
  await using world = await World.make();
  world.templates.failure = fault("the disk is full");
  const { origin } = await world.newMachines().get(request(), NEVER);
  assert.equal(origin, "boot");
  assert.ok(world.said("there is no template"));
});

Deno.test("a template that cannot be cloned is rejected, and a machine is booted", async () => {
  await using world = await World.make();
  world.gate.fail("clone", fault());
  const { origin, place } = await world.newMachines().get(request(), NEVER);
  assert.equal(origin, "boot");
  assert.equal(world.templates.rejected.length, 1);
  assert.deepEqual(await world.names("machines"), [place.id], "the clone's place was given back");
});

Deno.test("a template is not to blame for a full disk: it stays, and a machine is booted", async () => {
  await using world = await World.make();
  world.gate.fail("clone", new SandboxError("ResourceExhausted", "no space left"));
  const { origin } = await world.newMachines().get(request(), NEVER);
  assert.equal(origin, "boot");
  assert.deepEqual(world.templates.rejected, []);
});

Deno.test("a clone that fails with its shared tree is told: the file server has ended with it", async () => {
  await using world = await World.make();
  world.gate.fail("clone", fault());
  await assert.rejects(world.newMachines().get(shared(), NEVER), BadClone);
  assert.equal(world.templates.rejected.length, 1);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a pod that wants no template, and a VMM that has none, boot", async () => {
  await using world = await World.make();
  const first = await world.newMachines().get(request({ template: false }), NEVER);
  assert.equal(first.origin, "boot");
  const { boot, adopt, version, name } = world.hypervisor;
  const plain = {
    name,
    boot: boot.bind(world.hypervisor),
    adopt: adopt.bind(world.hypervisor),
    version: version.bind(world.hypervisor),
  };
  const second = await world.newMachines({ hypervisor: plain }).get(request(), NEVER);
  assert.equal(second.origin, "boot");
  assert.equal(world.gate.steps.includes("template"), false);
});

Deno.test("a machine that cannot be booted leaves no place", async () => {
  await using world = await World.make();
  world.gate.fail("boot", fault("no such kernel"));
  const machines = world.newMachines();
  await assert.rejects(machines.get(request({ template: false }), NEVER), /no such kernel/);
  assert.deepEqual(await world.left(), []);
});

for (const step of ["template", "clone", "boot", "resume"]) {
  Deno.test(`a caller who gives up during "${step}" gets no machine, and none is left`, async () => {
    await using world = await World.make();
    const ready = step === "resume" ? await pooled(world) : undefined;
    const caller = new AbortController();
    const held = world.gate.hold(step);
    const machines = world.newMachines({ ready: { take: () => ready } });
    const getting = machines.get(request({ template: step !== "boot" }), caller.signal);
    await held.reached;
    caller.abort();
    held.release(new SandboxError("Cancelled", "cancelled by the caller"));
    await assert.rejects(getting, { code: "Cancelled" });
    assert.deepEqual(await world.left(), []);
    assert.deepEqual(world.templates.rejected, [], "the template is not to blame");
  });
}
