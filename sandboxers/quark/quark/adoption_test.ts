import assert from "node:assert/strict";
import { FifoHolder } from "../../host/fifo_holder.ts";
import { launcher } from "../../host/testing/fixture.ts";
import type { Json } from "../../lifecycle/spec.ts";
import { sandboxSpec } from "../../lifecycle/testing/specs.ts";
import { noLog } from "../../log.ts";
import type { Quark } from "./kernel.ts";
import { NEVER, QuarkWorld } from "./testing/world.ts";

const POD = sandboxSpec("pod");

async function adopt(
  quark: Quark,
  record: Json,
  containers: Parameters<Quark["adopt"]>[0]["containers"] = [],
) {
  return await quark.adopt({ spec: POD, record, containers });
}

Deno.test("the next sandboxer takes a pod over with all that runs in it", async () => {
  await using world = await QuarkWorld.make();
  const holding = { launcher, dir: world.directory, log: noLog };
  const firstHolder = await FifoHolder.start(holding);
  const first = world.quark({ holder: firstHolder });
  const earlier = await first.start(POD, NEVER);
  const stdin = await world.fifo("stdin");
  const running = world.container("running", "cat; exit 4", { stdio: { stdin } });
  const ended = world.container("ended", "exit 6");
  const created = world.container("created", "echo late");
  const unknown = world.container("unknown", "sleep 100");
  const slept = world.exec("slept", "sleep 100");
  const handles = [];
  for (const spec of [running, ended, created, unknown]) {
    handles.push(await earlier.createContainer(spec, NEVER));
  }
  await handles[0]?.start(NEVER);
  await (await handles[1]?.start(NEVER))?.exited;
  await handles[3]?.start(NEVER);
  await handles[0]?.exec?.(slept, NEVER);
  await firstHolder.release();
  await first.leave();

  const holder = await FifoHolder.start(holding);
  await using _holder = { [Symbol.asyncDispose]: () => holder.stop() };
  const next = world.quark({ holder });
  const adopted = await adopt(next, earlier.record, [
    {
      spec: running,
      record: handles[0]?.record ?? null,
      execs: [slept, world.exec("never", "true")],
    },
    { spec: ended, record: handles[1]?.record ?? null },
    { spec: created, record: handles[2]?.record ?? null },
    { spec: world.container("gone", "true"), record: { name: "0".repeat(64) } },
    { spec: world.container("unstored", "true"), record: null },
  ]);
  await next.recovered();
  await holder.tookOver();
  assert.ok(adopted);
  world.keep(adopted.handle);
  assert.equal(adopted.handle.pid, earlier.pid);
  assert.deepEqual([...adopted.containers.keys()], ["running", "ended", "created"]);
  const of = (id: string) => adopted.containers.get(id);
  assert.deepEqual([...of("running")?.processes.keys() ?? []], ["", "slept"]);
  assert.equal((await of("ended")?.processes.get("")?.exited)?.status, 6);
  assert.equal(of("created")?.processes.size, 0);
  const late = await of("created")?.handle.start(NEVER);
  assert.equal((await late?.exited)?.status, 0);
  assert.equal(await world.output("created"), "late\n");

  const cat = of("running")?.processes.get("");
  await Deno.writeTextFile(stdin.path, "still there");
  await world.wrote("running", "still there");
  await cat?.closeStdin();
  assert.equal((await cat?.exited)?.status, 4);
  await of("running")?.processes.get("slept")?.kill(9);
  const bundles = (await world.left()).filter((line) => line.endsWith("/rootfs"));
  assert.equal(new Set(bundles).size, 3, "the container that nobody knows is gone");
});

Deno.test("of a pod whose Quark has ended nothing is left, nor of one that nobody knows", async () => {
  await using world = await QuarkWorld.make();
  const first = world.quark();
  const earlier = await first.start(POD, NEVER);
  const container = await earlier.createContainer(world.container("c1", "sleep 100"), NEVER);
  await container.start(NEVER);
  await first.leave();
  await launcher.kill({
    pid: earlier.pid,
    startTime: (await launcher.identify(earlier.pid))?.startTime ?? 0,
  });
  assert.equal(await adopt(world.quark(), earlier.record), undefined);
  assert.deepEqual(await world.left(), []);

  // Killed before its record was stored.
  const second = world.quark();
  await second.start(POD, NEVER);
  await second.leave();
  assert.equal(await adopt(world.quark(), null), undefined);
  assert.deepEqual(await world.left(), []);

  const third = world.quark();
  await third.start(sandboxSpec("stray"), NEVER);
  await third.leave();
  await world.quark().recovered();
  assert.deepEqual(await world.left(), []);
});

Deno.test("a pod that has no answers for the next sandboxer is ended", async () => {
  await using world = await QuarkWorld.make({ fault: "forgets" });
  const first = world.quark();
  const earlier = await first.start(POD, NEVER);
  world.keep(earlier);
  const spec = world.container("c1", "sleep 100");
  const { record } = await earlier.createContainer(spec, NEVER);
  await first.leave();
  const next = world.quark();
  const adopted = await adopt(next, earlier.record, [{ spec, record }]);
  assert.equal(adopted?.containers.size, 0);
  const bundles = (await world.left()).filter((line) => line.endsWith("/rootfs"));
  assert.deepEqual(bundles, []);
  await adopted?.handle.stop(0);
});
