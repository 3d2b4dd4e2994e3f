import assert from "node:assert/strict";
import { assertFails } from "../../host/testing/fixture.ts";
import { NEVER, QuarkWorld } from "./testing/world.ts";

Deno.test("when Quark is killed its pod and all in it are lost, and nothing is left", async () => {
  await using world = await QuarkWorld.make();
  const sandbox = await world.start(world.quark());
  const container = await sandbox.createContainer(world.container("c1", "sleep 100"), NEVER);
  const process = await container.start(NEVER);
  const exec = await container.exec?.(world.exec("e1", "sleep 100"), NEVER);
  Deno.kill(sandbox.pid, "SIGKILL");
  const exit = await sandbox.exited;
  assert.deepEqual([exit.status, exit.reason], [137, "lost"]);
  assert.match(exit.message ?? "", /^Quark has ended/);
  for (const end of [await process.exited, await exec?.exited]) {
    assert.deepEqual([end?.status, end?.reason], [137, "lost"]);
  }
  await process.kill(9);
  const late = sandbox.createContainer(world.container("c2", "true"), NEVER);
  await assertFails(late, "Unavailable", /cannot create container "c2"/);
  await container.delete();
  await sandbox.stop(0);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a connection that is lost is made again, and no exit is", async () => {
  await using world = await QuarkWorld.make({ fault: "drops-connections" });
  const sandbox = await world.start(world.quark());
  const spec = world.container("c1", "while ! [ -e /go ]; do sleep 0.02; done; exit 5");
  const container = await sandbox.createContainer(spec, NEVER);
  const process = await container.start(NEVER);
  await world.dropConnections();
  await Deno.writeTextFile(`${world.rootfs.path}/go`, "");
  assert.equal((await process.exited).status, 5);
  await container.delete();
});

Deno.test("a slow Quark can be given up, and then has nothing of what was asked for", async () => {
  await using world = await QuarkWorld.make({ slowMs: 100 });
  const sandbox = await world.start(world.quark());
  const signal = AbortSignal.timeout(30);
  const spec = world.container("c1", "true");
  await assertFails(sandbox.createContainer(spec, signal), "DeadlineExceeded", /"c1"/);
  const container = await sandbox.createContainer(spec, NEVER);
  assert.equal((await (await container.start(NEVER)).exited).status, 0);
  await container.delete();
});
