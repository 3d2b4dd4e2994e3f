import assert from "node:assert/strict";
import type { AdoptableContainer, AdoptableSandbox } from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { containerSpec, execSpec } from "../lifecycle/testing/specs.ts";
import { eventually, fault, NEVER, podSpec, World } from "./testing/world.ts";

/** What the store says of a pod with containers. */
function stored(...containers: AdoptableContainer[]): AdoptableSandbox {
  return { spec: podSpec(), record: null, containers };
}

/** What the store says of a container. */
function storedContainer(id: string, execs: readonly string[] = []): AdoptableContainer {
  const spec = containerSpec(id, "pod");
  return { spec, record: id, execs: execs.map((exec) => execSpec(exec)) };
}

/** A process as the agent lists it. */
function listed(exec: string) {
  return { exec, pid: 7, stdio: {} };
}

Deno.test("a pod that cannot be started leaves nothing, and can be started again", async () => {
  await using world = await World.make();
  const driver = world.newDriver();
  world.gate.fail("agent", fault(), fault());
  await assert.rejects(driver.start(podSpec(), NEVER), /a fault/);
  assert.deepEqual(await world.left(), []);
  const pod = await driver.start(podSpec(), NEVER);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a pod is taken over with its containers, and exits that nobody heard of are told", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  await (await pod.createContainer(containerSpec("a", "pod"), NEVER)).start(NEVER);
  await (await pod.createContainer(containerSpec("b", "pod"), NEVER)).start(NEVER);

  const next = await world.next();
  world.handlers = {
    inventory: () => {
      // The agent tells again what was not acknowledged, also before it has answered.
      world.tellExit("a", 3);
      world.tellExit("b", 4, "exec");
      const state = "running" as const;
      return {
        containers: [
          { container: "a", state, processes: [listed("")] },
          { container: "b", state, processes: [listed(""), listed("exec")] },
        ],
        lastStream: 40,
      };
    },
  };
  const adopted = await next.newDriver().adopt(
    stored(storedContainer("a"), storedContainer("b", ["exec"])),
  );
  assert.ok(adopted !== undefined);
  const [a, b] = ["a", "b"].map((id) => adopted.containers.get(id));
  assert.equal((await a?.processes.get("")?.exited)?.status, 3);
  assert.equal((await b?.processes.get("exec")?.exited)?.status, 4);
  world.tellExit("b", 5);
  assert.equal((await b?.processes.get("")?.exited)?.status, 5);
  await adopted.handle.stop(0);
  assert.deepEqual(await next.left(), []);
});

Deno.test("what the guest has and nobody knows is deleted there, and the other way round", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  await pod.createContainer(containerSpec("a", "pod"), NEVER);
  const next = await world.next();
  next.files.held.add("gone");
  world.handlers = {
    inventory: () => ({
      containers: [
        { container: "a", state: "running", processes: [listed(""), listed("stranger")] },
        { container: "unknown", state: "running", processes: [listed("")] },
      ],
      lastStream: 3,
    }),
  };
  const adopted = await next.newDriver().adopt(
    stored(storedContainer("a"), storedContainer("gone")),
  );
  assert.deepEqual([...adopted?.containers.keys() ?? []], ["a"]);
  assert.deepEqual(world.argumentsOf("deleteContainer"), [{ container: "unknown" }]);
  const kill = { container: "a", exec: "stranger", signal: 9 };
  assert.deepEqual(world.argumentsOf("kill"), [kill], "nobody was told that it runs");
  assert.deepEqual([...next.files.held], ["a"]);
  await adopted?.handle.stop(0);
});

Deno.test("a pod whose guest has ended is gone, with the files of its containers", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  await pod.createContainer(containerSpec("a", "pod"), NEVER);
  world.running.crash();
  const next = await world.next();
  next.files.held.add("a");
  assert.equal(await next.newDriver().adopt(stored(storedContainer("a"))), undefined);
  assert.deepEqual(await next.left(), []);
});

Deno.test("a pod of which nothing can be read is gone: its machine is nobody's", async () => {
  await using world = await World.make();
  await world.newDriver().start(podSpec(), NEVER);
  const [name = ""] = await world.names("pods");
  await Deno.writeTextFile(`${world.directory}/pods/${name}/guest.json`, "{");
  const next = await world.next();
  assert.equal(await next.newDriver().adopt(stored()), undefined);
  assert.deepEqual(await next.names("pods"), []);
  assert.ok(next.said("a pod cannot be taken over"));
});

Deno.test("a pod whose agent does not tell what it has is ended", async () => {
  await using world = await World.make();
  await world.newDriver().start(podSpec(), NEVER);
  const next = await world.next();
  world.handlers = {
    inventory: () => {
      world.running.crash();
      throw new SandboxError("Internal", "no");
    },
  };
  assert.equal(await next.newDriver().adopt(stored(storedContainer("a"))), undefined);
  assert.ok(next.said("ending a pod that cannot be taken over"));
  assert.deepEqual(await next.left(), []);
});

Deno.test("a process that leaves lets its pods go on, and the next one takes them over", async () => {
  await using world = await World.make();
  const driver = world.newDriver();
  const pod = await driver.start(podSpec(), NEVER);
  const init = await (await pod.createContainer(containerSpec("a", "pod"), NEVER)).start(NEVER);
  await driver.leave();
  assert.ok(world.gate.steps.includes("keepOpen"), "clients of its streams see no end");
  assert.equal(await Promise.race([pod.exited, Promise.resolve("runs")]), "runs");
  assert.equal(await Promise.race([init.exited, Promise.resolve("runs")]), "runs");
  assert.equal(world.machines.running.length, 1);
  const next = await world.next();
  world.handlers = {
    inventory: () => ({
      containers: [{ container: "a", state: "created", processes: [listed("")] }],
      lastStream: 1,
    }),
  };
  const adopted = await next.newDriver().adopt(stored(storedContainer("a")));
  assert.equal(adopted?.containers.get("a")?.processes.size, 0, "it was never started");
  await adopted?.handle.stop(0);
  await eventually(() => next.machines.running.length === 0);
  assert.deepEqual(await next.left(), []);
});
