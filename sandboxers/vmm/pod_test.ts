import assert from "node:assert/strict";
import { AgentError } from "../../guest/protocol/agent_error.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ContainerHandle, ProcessHandle, SandboxHandle } from "../lifecycle/driver.ts";
import { containerSpec, execSpec } from "../lifecycle/testing/specs.ts";
import { eventually, fault, NEVER, podSpec, World } from "./testing/world.ts";

/** A container of the pod. */
function container(id = "c") {
  return containerSpec(id, "pod");
}

/** A pod with a container that runs. */
async function running(
  world: World,
): Promise<{ pod: SandboxHandle; container: ContainerHandle; init: ProcessHandle }> {
  const pod = await world.newDriver().start(podSpec(), NEVER);
  const made = await pod.createContainer(container(), NEVER);
  return { pod, container: made, init: await made.start(NEVER) };
}

/** Whether a promise has settled. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  const nothing = Symbol();
  return await Promise.race([promise, Promise.resolve(nothing)]) !== nothing;
}

Deno.test("an exit counts once its output was written and its files were read back", async () => {
  await using world = await World.make();
  const { pod, init } = await running(world);
  const reading = world.gate.hold("files.readBack");
  const writing = world.gate.hold("streams.finished");
  world.tellExit("c", 3);
  await reading.reached;
  assert.equal(await settled(init.exited), false);
  reading.release();
  await writing.reached;
  assert.equal(await settled(init.exited), false);
  writing.release();
  const { status, reason } = await init.exited;
  assert.deepEqual([status, reason], [3, "exited"]);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("the guest forgets an exit only when there was time to write it down", async () => {
  await using world = await World.make();
  const { pod, init } = await running(world);
  world.tellExit("c", 0);
  await init.exited;
  assert.deepEqual(world.argumentsOf("acknowledgeExit"), []);
  await eventually(() => world.argumentsOf("acknowledgeExit").length > 0);
  assert.deepEqual(world.argumentsOf("acknowledgeExit"), [{ container: "c", exec: "" }]);
  await pod.stop(0);
});

Deno.test("exits of processes that nobody knows are forgotten, however many there are", async () => {
  await using world = await World.make();
  const { pod, init } = await running(world);
  for (let i = 0; i < 300; i++) world.tellExit(`stranger-${i}`, 1);
  await eventually(() => world.argumentsOf("acknowledgeExit").length === 300);
  assert.equal(await settled(init.exited), false);
  world.tellExit("c", 5);
  assert.equal((await init.exited).status, 5);
  await pod.stop(0);
});

Deno.test("a guest that ends takes its processes along, and the pod ends after them", async () => {
  await using world = await World.make();
  const { pod, init } = await running(world);
  const order: string[] = [];
  void init.exited.then(() => order.push("process"));
  void pod.exited.then(() => order.push("pod"));
  world.running.crash("panic", "the guest's kernel panicked");
  const { status, reason, message } = await pod.exited;
  assert.deepEqual([status, reason, message], [137, "lost", "the guest's kernel panicked"]);
  assert.deepEqual(order, ["process", "pod"]);
  assert.equal((await init.exited).reason, "lost");
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a process whose end was told keeps its status when the guest ends meanwhile", async () => {
  await using world = await World.make();
  const { pod, init } = await running(world);
  const writing = world.gate.hold("streams.finished");
  world.tellExit("c", 3);
  await writing.reached;
  world.running.crash();
  await pod.exited;
  assert.equal(await settled(init.exited), true, "the pod's end is told last");
  assert.equal((await init.exited).status, 3);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a guest whose agent is lost is ended, and the pod says why", async () => {
  await using world = await World.make();
  const { pod, init } = await running(world);
  const { running: machine } = world;
  world.agent[Symbol.dispose]();
  await Deno.remove(machine.agentSocket).catch(() => undefined);
  const { reason, message } = await pod.exited;
  assert.equal(reason, "lost");
  assert.match(message ?? "", /connection to the agent was lost/);
  assert.equal((await init.exited).reason, "lost");
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a stop tells the end, also when releasing fails, and goes on where it stopped", async () => {
  await using world = await World.make();
  const { pod, init } = await running(world);
  world.gate.fail("files.release", fault("the disk does not let go"));
  await assert.rejects(pod.stop(0), /the disk does not let go/);
  assert.deepEqual((await pod.exited).status, 0);
  assert.equal((await init.exited).status, 137);
  await pod.stop(0);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a stop with time to end lets processes end by themselves", async () => {
  await using world = await World.make();
  world.handlers = {
    kill: ({ container, signal }) => {
      world.tellExit(container, 128 + signal);
      return {};
    },
  };
  const { pod, init } = await running(world);
  await pod.stop(10_000);
  assert.equal((await init.exited).status, 143);
  assert.deepEqual(world.argumentsOf("kill"), [{ container: "c", exec: "", signal: 15 }]);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a stop does not wait longer than it was given for an agent that says nothing", async () => {
  await using world = await World.make();
  world.handlers = { kill: () => new Promise(() => undefined) };
  const { pod, init } = await running(world);
  await pod.stop(50);
  assert.equal((await init.exited).status, 137);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a container that cannot be made leaves nothing", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  world.handlers = {
    createContainer: () => {
      throw new AgentError("InvalidArgument", "no such program");
    },
  };
  await assert.rejects(pod.createContainer(container(), NEVER), /no such program/);
  assert.deepEqual([...world.files.held], []);
  assert.equal(world.streams.count, 0);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("files of a container that could not be made, nor released, go with the pod", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  world.handlers = {
    createContainer: () => {
      throw new AgentError("InvalidArgument", "no such program");
    },
  };
  world.gate.fail("files.release", fault("the disk does not let go"));
  await assert.rejects(pod.createContainer(container(), NEVER), /no such program/);
  assert.deepEqual([...world.files.held], ["c"]);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a caller who gives up while a container is made: the guest's container goes too", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  const making = Promise.withResolvers<void>();
  const made = Promise.withResolvers<void>();
  let isMaking = true;
  world.handlers = {
    createContainer: async () => {
      making.resolve();
      await made.promise;
      isMaking = false;
      return { pid: 1 };
    },
    // As the agent does: what is being made cannot be deleted yet.
    deleteContainer: () => {
      if (isMaking) throw new AgentError("FailedPrecondition", "it is being created");
      return {};
    },
  };
  const caller = new AbortController();
  const creating = pod.createContainer(container(), caller.signal);
  await making.promise;
  caller.abort();
  await eventually(() => world.argumentsOf("deleteContainer").length > 1);
  assert.equal(await settled(creating.catch(() => "failed")), false, "its files are in use still");
  made.resolve();
  await assert.rejects(creating, { code: "Cancelled" });
  assert.deepEqual([...world.files.held], []);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a container whose deletion was half done can be deleted again", async () => {
  await using world = await World.make();
  const { pod, container: made, init } = await running(world);
  world.gate.fail("files.release", fault("the disk does not let go"));
  await assert.rejects(made.delete(), /the disk does not let go/);
  world.handlers = {
    deleteContainer: () => {
      throw new AgentError("NotFound", "cannot find the container");
    },
  };
  await made.delete();
  assert.equal((await init.exited).reason, "lost", "nobody will hear of its end");
  assert.deepEqual([...world.files.held], []);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a container of a guest that has ended can be deleted", async () => {
  await using world = await World.make();
  const { pod, container: made } = await running(world);
  world.running.crash();
  await pod.exited;
  await made.delete();
  assert.deepEqual([...world.files.held], []);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("execs that cannot be started leave nothing, however many there are", async () => {
  await using world = await World.make();
  const { pod, container: made } = await running(world);
  world.handlers = {
    exec: () => {
      throw new AgentError("NotFound", "no such program");
    },
  };
  for (let i = 0; i < 20; i++) {
    await assert.rejects(
      async () => await made.exec?.(execSpec(`e${i}`), NEVER),
      /no such program/,
    );
  }
  assert.equal(world.streams.count, 1, "those of the container");
  assert.deepEqual(world.argumentsOf("kill"), []);
  await pod.stop(0);
});

Deno.test("an exec that nobody waits for any more is killed, if it was started after all", async () => {
  await using world = await World.make();
  const { pod, container: made } = await running(world);
  const asked = Promise.withResolvers<void>();
  world.handlers = {
    exec: () => {
      asked.resolve();
      return new Promise(() => undefined);
    },
  };
  const caller = new AbortController();
  const starting = made.exec?.(execSpec("e"), caller.signal);
  assert.ok(starting !== undefined);
  await asked.promise;
  caller.abort();
  await assert.rejects(starting, { code: "Cancelled" });
  await eventually(() => world.argumentsOf("kill").length > 0);
  assert.deepEqual(world.argumentsOf("kill"), [{ container: "c", exec: "e", signal: 9 }]);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a full disk when the first container comes fails that, and not the pod", async () => {
  await using world = await World.make();
  const driver = world.newDriver();
  const pod = await driver.start(podSpec(), NEVER);
  const [name = ""] = await world.names("pods");
  // A directory in its place cannot be written to.
  const path = `${world.directory}/pods/${name}/guest.json.new`;
  await Deno.mkdir(path);
  await assert.rejects(pod.createContainer(container(), NEVER), SandboxError);
  await Deno.remove(path);
  await pod.createContainer(container(), NEVER);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("the first container decides about the shared tree, also for one that comes at once", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  const first = world.running;
  const mount = { source: world.directory, destination: "/data", readonly: false };
  const sharing = { ...container("sharing"), mounts: [mount] };
  const outcomes = await Promise.allSettled([
    pod.createContainer(sharing, NEVER),
    pod.createContainer(container("plain"), NEVER),
  ]);
  assert.deepEqual(outcomes.map(({ status }) => status), ["fulfilled", "fulfilled"]);
  assert.notEqual(world.running, first, "the guest was replaced");
  assert.equal(world.trees, 1);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a guest with a container is not replaced, however soon the next one wants that", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  const first = world.running;
  const mount = { source: world.directory, destination: "/data", readonly: false };
  const sharing = { ...container("sharing"), mounts: [mount] };
  const [plain, refused] = await Promise.allSettled([
    pod.createContainer(container("plain"), NEVER),
    pod.createContainer(sharing, NEVER),
  ]);
  assert.equal(plain?.status, "fulfilled");
  assert.ok(refused?.status === "rejected");
  assert.match(SandboxError.from(refused.reason).message, /share-fs: virtiofs/);
  assert.equal(world.running, first);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a guest that cannot be replaced ends its pod, and nothing is left of either", async () => {
  await using world = await World.make();
  const pod = await world.newDriver().start(podSpec(), NEVER);
  const mount = { source: world.directory, destination: "/data", readonly: false };
  world.gate.fail("serveTree", fault("no virtiofsd"));
  await assert.rejects(
    pod.createContainer({ ...container(), mounts: [mount] }, NEVER),
    /no virtiofsd/,
  );
  const { reason, message } = await pod.exited;
  assert.deepEqual([reason, message], ["lost", "no virtiofsd"]);
  await pod.stop(0);
  assert.deepEqual(await world.left(), []);
});
