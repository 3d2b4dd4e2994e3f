import assert from "node:assert/strict";
import { assertFails, launcher, run, until } from "../../host/testing/fixture.ts";
import type { ContainerHandle, SandboxHandle } from "../../lifecycle/driver.ts";
import type { ContainerSpec } from "../../lifecycle/spec.ts";
import { NEVER, QuarkWorld } from "./testing/world.ts";

async function create(sandbox: SandboxHandle, spec: ContainerSpec): Promise<ContainerHandle> {
  return await sandbox.createContainer(spec, NEVER);
}

async function runToEnd(sandbox: SandboxHandle, spec: ContainerSpec): Promise<number> {
  const container = await create(sandbox, spec);
  const { status } = await (await container.start(NEVER)).exited;
  await container.delete();
  return status;
}

Deno.test("containers see their volumes and their pod's files, inside of their root", async () => {
  await using world = await QuarkWorld.make();
  const dns = { servers: ["192.0.2.1"], searches: [], options: [] };
  const sandbox = await world.start(world.quark(), "pod", { dns, hostname: "box" });
  const root = world.rootfs.path;
  await Deno.mkdir(`${world.directory}/volume`);
  await Deno.writeTextFile(`${world.directory}/volume/f`, "from the host");
  // A link as images have them, and one that would lead out of the root.
  await Deno.symlink("/run", `${root}/var`);
  await Deno.symlink("../../../../../..", `${root}/up`);
  const spec = world.container(
    "c1",
    "cat /run/v/f /up/one; cat /etc/resolv.conf; echo x >/run/v/g",
    {
      mounts: [
        { source: `${world.directory}/volume`, destination: "/var/v", readonly: false },
        { source: `${world.directory}/volume/f`, destination: "/up/one", readonly: true },
      ],
    },
  );
  assert.equal(await runToEnd(sandbox, spec), 0);
  assert.equal(await world.output("c1"), "from the hostfrom the hostnameserver 192.0.2.1\n");
  assert.equal(await Deno.readTextFile(`${world.directory}/volume/g`), "x\n");
  assert.equal((await Deno.stat(`${root}/one`)).isFile, true);

  const readonly = world.container("c2", "echo x >/run/v/h || echo x >/y || cat /etc/hostname", {
    readonlyRootfs: true,
    mounts: [{ source: `${world.directory}/volume`, destination: "/run/v", readonly: true }],
  });
  assert.equal(await runToEnd(sandbox, readonly), 0);
  assert.equal(await world.output("c2"), "box\n");

  const missing = world.container("c3", "true", {
    mounts: [{ source: `${world.directory}/gone`, destination: "/gone", readonly: true }],
  });
  await assertFails(create(sandbox, missing), "NotFound", /gone/);
});

Deno.test("execs have streams, statuses and signals of their own", async () => {
  await using world = await QuarkWorld.make();
  const sandbox = await world.start(world.quark());
  const container = await create(sandbox, world.container("c1", "sleep 100"));
  const init = await container.start(NEVER);
  const exec = async (id: string, command: string, stdio = {}) => {
    const process = await container.exec?.(world.exec(id, command, stdio), NEVER);
    assert.ok(process);
    return process;
  };

  const stdin = await world.fifo("stdin");
  const reader = await exec("reads", "cat; exit 3", { stdin });
  await Deno.writeTextFile(stdin.path, "first ");
  await world.wrote("reads", "first");
  // Whoever has written has gone: that is no end yet.
  await Deno.writeTextFile(stdin.path, "second");
  await world.wrote("reads", "second");
  await reader.closeStdin();
  assert.equal((await reader.exited).status, 3);

  const signaled = await exec("signaled", "sleep 100");
  await signaled.kill(15);
  const { status, reason } = await signaled.exited;
  assert.deepEqual({ status, reason }, { status: 143, reason: "signaled" });
  await signaled.kill(15);

  const unknown = world.exec("unknown", "true");
  const none = { ...unknown, process: { ...unknown.process, args: ["no-such-program"] } };
  await assertFails(
    container.exec?.(none, NEVER) ?? Promise.resolve(),
    "Internal",
    /cannot start exec "unknown" in container "c1": Quark says: .*no-such-program/,
  );
  const own = { stdin: { kind: "readable", readable: new ReadableStream() } } as const;
  await assertFails(exec("own", "true", own), "InvalidArgument", /stdin of exec "own"/);
  // Nothing of them is left but the container's own streams.
  const streams = async () =>
    new Set((await world.left()).filter((line) => /std(in|out|err)$/.test(line)));
  await until("streams are taken away", async () => (await streams()).size === 2);

  const parallel = await Promise.all([1, 2, 3, 4].map((n) => exec(`e${n}`, `exit ${n}`)));
  const ends = await Promise.all(parallel.map(({ exited }) => exited));
  assert.deepEqual(ends.map((end) => end.status), [1, 2, 3, 4]);
  await container.delete();
  assert.deepEqual((await init.exited).reason, "signaled");
});

Deno.test("a terminal has a size, and one output", async () => {
  await using world = await QuarkWorld.make();
  const sandbox = await world.start(world.quark());
  const command = "sleep 0.5; stty size; read x; echo got $x; stty size";
  const stdin = await world.fifo("stdin");
  const spec = world.container("c1", command, {
    stdio: { stdin, terminal: true, terminalSize: { columns: 90, rows: 30 } },
  });
  const container = await create(sandbox, spec);
  const process = await container.start(NEVER);
  await until("it has its size", async () => {
    await process.resize?.(100, 40).catch(() => undefined);
    return (await world.output("c1")).includes("40 100");
  });
  await Deno.writeTextFile(stdin.path, "word\n");
  assert.equal((await process.exited).status, 0);
  assert.match(await world.output("c1"), /got word\r\n40 100\r\n/);
  assert.equal(await world.output("c1", "stderr"), "");
});

Deno.test("containers are deleted in any state, and what cannot be made leaves nothing", async () => {
  await using world = await QuarkWorld.make();
  const sandbox = await world.start(world.quark());
  const created = await create(sandbox, world.container("created", "true"));
  assert.deepEqual(await created.pids(), []);
  await created.delete();
  const again = await create(sandbox, world.container("created", "sleep 100"));
  const process = await again.start(NEVER);
  assert.deepEqual(await again.pids(), [sandbox.pid]);
  await again.delete();
  assert.equal((await process.exited).status, 137);
  const noProgram = world.container("none", "true");
  const failing = await create(sandbox, {
    ...noProgram,
    process: { ...noProgram.process, args: ["/no/such"] },
  });
  await assertFails(failing.start(NEVER), "Internal", /cannot start container "none": Quark says/);
  await failing.delete();
  assert.deepEqual((await world.left()).filter((line) => line.endsWith("/rootfs")), []);
});

Deno.test("a container is asked to end, and has a while to do so", async () => {
  await using world = await QuarkWorld.make();
  const sandbox = await world.start(world.quark());
  const polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done";
  const container = await create(sandbox, world.container("c1", polite));
  const process = await container.start(NEVER);
  await world.wrote("c1", "up");
  await sandbox.stop(10_000);
  assert.equal((await process.exited).status, 0);
  assert.match(await world.output("c1"), /bye/);
  assert.equal((await sandbox.exited).reason, "exited");
  await sandbox.stop(0);
});

Deno.test("what a container uses is what Quark says, or what its pod uses where it is alone", async () => {
  await using world = await QuarkWorld.make();
  const quark = world.quark();
  const sandbox = await world.start(quark);
  const container = await create(sandbox, world.container("c1", "sleep 100"));
  await container.start(NEVER);
  // It is alone: what the pod uses is what it uses.
  assert.ok((await container.stats()).memoryBytes > 1_000_000);
  const other = await create(sandbox, world.container("c2", "sleep 100"));
  await other.start(NEVER);
  assert.equal((await container.stats()).memoryBytes, 0);

  await world.double.configure({ Sandboxed: true, ShimMode: false, Double: { measures: true } });
  const able = await world.start(quark, "able");
  const measured = await create(able, world.container("c3", "sleep 100"));
  await measured.start(NEVER);
  const { cpuNs, memoryBytes, pids } = await measured.stats();
  assert.deepEqual({ cpuNs, memoryBytes, pids }, { cpuNs: 5_000, memoryBytes: 8_000, pids: 3 });
});

Deno.test("a pod's cgroup holds Quark, is measured and limited, and goes with it", async () => {
  await using world = await QuarkWorld.make();
  const parent = `/quasaur-quark-test-${crypto.randomUUID().slice(0, 8)}`;
  const sandbox = await world.start(world.quark(), "pod", { cgroupParent: parent });
  const cgroups = await run("cat", `/proc/${sandbox.pid}/cgroup`);
  assert.match(cgroups, new RegExp(`${parent}/quasaur-[0-9a-f]{16}$`, "m"));
  await sandbox.update?.({ pids: 200 });
  assert.ok((await sandbox.stats()).memoryBytes > 0);
  await sandbox.stop(0);
  await launcher.removeCgroup(parent);
});
