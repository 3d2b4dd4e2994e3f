import assert from "node:assert/strict";
import { assertFails, launcher, until } from "../../host/testing/fixture.ts";
import { sandboxSpec } from "../../lifecycle/testing/specs.ts";
import { NEVER, QuarkWorld } from "./testing/world.ts";

Deno.test("a container in Quark runs, writes to its streams and ends with its status", async () => {
  await using world = await QuarkWorld.make();
  // An id as containerd's CRI has them, which is what Quark calls it too.
  const sandbox = await world.start(world.quark(), "0123456789abcdef".repeat(4));
  const spec = world.container("c1", "echo out $WHO; echo err >&2; exit 7");
  const container = await sandbox.createContainer(spec, NEVER);
  const process = await container.start(NEVER);
  assert.equal(process.pid, sandbox.pid);
  const { status, reason } = await process.exited;
  assert.deepEqual({ status, reason }, { status: 7, reason: "exited" });
  assert.equal(await world.output("c1"), "out me\n");
  assert.equal(await world.output("c1", "stderr"), "err\n");
  assert.ok((await sandbox.stats()).memoryBytes > 1_000_000);
  await container.delete();
  await container.delete();
});

Deno.test("a sandbox without Quark, or with one that is not set up for it, says what to do", async () => {
  await using world = await QuarkWorld.make();
  const start = (changes = {}) => world.quark(changes).start(sandboxSpec("pod"), NEVER);
  const missing = start({ program: "/usr/local/bin/no-quark" });
  await assertFails(missing, "FailedPrecondition", /no such program: install it/);
  const noConfig = start({ configPath: "/etc/no-quark.json" });
  await assertFails(noConfig, "FailedPrecondition", /"\/etc\/no-quark.json": no such file/);
  await world.double.configure({ Sandboxed: false, ShimMode: false });
  await assertFails(start(), "FailedPrecondition", /"Sandboxed" is false .*: set it to true/);
  await world.double.configure({ Sandboxed: true, ShimMode: true });
  await assertFails(start(), "FailedPrecondition", /"ShimMode" is true .*: set it to false/);
  await Deno.writeTextFile(world.double.configPath, "{");
  await assertFails(start(), "FailedPrecondition", /it is not JSON/);
  await world.double.configure({ Sandboxed: true, ShimMode: false });
  const ofUser = world.quark().start(sandboxSpec("pod", { network: { kind: "user" } }), NEVER);
  await assertFails(ofUser, "FailedPrecondition", /choose none or host/);
  assert.deepEqual(await world.left(), []);
});

Deno.test("a Quark that does not come up is told of with its last words, and leaves nothing", async (t) => {
  await using world = await QuarkWorld.make();
  const cases = [
    ["dies-at-start", "Internal", /ended with status 101: .*wrong format.*quark\.log/],
    ["boot-dies", "Internal", /can't open kvm/],
    ["garbage", "FailedPrecondition", /serves containerd.task.v2 there/],
    ["mute", "DeadlineExceeded", /no answer in/],
    ["never-listens", "DeadlineExceeded", /not ready within 300 ms/],
    ["no-pid-file", "Internal", /its sandbox has ended/],
  ] as const;
  for (const [fault, code, message] of cases) {
    await t.step(fault, async () => {
      await world.double.configure({ Sandboxed: true, ShimMode: false, Double: { fault } });
      const readyMs = fault === "mute" || fault === "never-listens" ? 300 : 20_000;
      const started = world.quark({ readyMs }).start(sandboxSpec("pod"), NEVER);
      await assertFails(started, code, message);
      if (fault === "no-pid-file") await endUnknown(world);
      await until("nothing is left", async () => (await world.left()).length === 0);
    });
  }
});

/** Of a Quark without a pid file nobody can know. */
async function endUnknown(world: QuarkWorld): Promise<void> {
  for (const line of await world.left()) {
    const pid = /^process (\d+) /.exec(line)?.[1];
    if (pid !== undefined) Deno.kill(Number(pid), "SIGKILL");
  }
}

Deno.test("a start that is given up leaves nothing", async () => {
  await using world = await QuarkWorld.make({ fault: "mute" });
  const giveUp = new AbortController();
  const started = world.quark().start(sandboxSpec("pod"), giveUp.signal);
  const failed = assertFails(started, "Cancelled", /cancelled by the caller/);
  // Quark listens, and does not answer.
  await until("it is up", async () => (await world.left()).some((line) => / boot /.test(line)));
  giveUp.abort();
  await failed;
  assert.deepEqual(await world.left(), []);
});

Deno.test("a sandbox has the network it is given, the host's, or none but its loopback", async () => {
  await using world = await QuarkWorld.make();
  const quark = world.quark();
  const network = async (pid: number) => await Deno.readLink(`/proc/${pid}/ns/net`);
  const host = await world.start(quark, "host");
  const none = await world.start(quark, "none", { network: { kind: "none" } });
  const path = `/proc/${none.pid}/ns/net`;
  const given = await world.start(quark, "given", { network: { kind: "namespace", path } });
  assert.equal(await network(host.pid), await network(Deno.pid));
  assert.notEqual(await network(none.pid), await network(Deno.pid));
  assert.equal(await network(given.pid), await network(none.pid));
  const record = given.record;
  assert.deepEqual(record, { kernel: await launcher.identify(given.pid), cgroup: "" });
});
