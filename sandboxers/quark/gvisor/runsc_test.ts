import assert from "node:assert/strict";
import { assertFails, until } from "../../host/testing/fixture.ts";
import { Runsc } from "./runsc.ts";
import { controlSocketPath, listRecords, readRecord, removeRecord } from "./runsc_state.ts";
import { RunscWorld } from "./testing/world.ts";

const SANDBOX = { id: "pod", sandboxId: "pod" };
const CONTAINER = { id: "first", sandboxId: "pod" };
const WAITS = ["/bin/busybox", "sleep", "1000"];

Deno.test("a sandbox with a container is created, started, looked at and ended", async () => {
  await using world = await RunscWorld.open();
  const { runsc } = world;
  assert.match((await runsc.version()).version, /\d{8}/);
  assert.deepEqual(await runsc.list(), []);
  await world.start({ ...SANDBOX, args: WAITS });
  const output = await world.output("first");
  const script = "echo hello; trap 'exit 7' TERM; while :; do busybox sleep 0.05; done";
  await world.start({ ...CONTAINER, args: ["/bin/busybox", "sh", "-c", script] }, output);
  const { pid, status, bundle } = await runsc.state("first");
  assert.equal(status, "running");
  assert.equal(bundle, `${world.directory}/first`);
  const record = await readRecord(runsc.options.root, CONTAINER);
  assert.equal(record?.sandboxPid, pid);
  assert.equal(record?.controlSocket, controlSocketPath(runsc.options.root, "pod"));
  assert.deepEqual((await runsc.list()).map(({ id }) => id).sort(), ["first", "pod"]);
  await until("the container writes", async () => await Deno.readTextFile(output) === "hello\n");

  const ran = await runsc.run("first", ["/bin/busybox", "sh", "-c", "echo in; exit 3"]);
  assert.deepEqual(ran, { status: 3, stdout: "in\n", stderr: "" });
  assert.ok((await runsc.pids("first")).length >= 1);
  const stats = await runsc.stats("first");
  assert.ok(stats.cpuNs > 0 && stats.memoryBytes > 0 && stats.pids >= 1, JSON.stringify(stats));

  const waiting = runsc.wait("first");
  await runsc.kill("first", 15);
  assert.equal(await waiting, 7);
  assert.equal((await runsc.state("first")).status, "stopped");
  await assertFails(runsc.kill("first", 9), "NotFound", /send signal 9 .*no such process/);
  // Nothing is left of any call.
  assert.deepEqual(await Array.fromAsync(Deno.readDir(runsc.options.logs)), []);
});

Deno.test("a process is started beside the first, and goes on when the runsc that waits for it is killed", async () => {
  await using world = await RunscWorld.open();
  const { runsc, launcher, directory } = world;
  await world.start({ ...SANDBOX, args: WAITS });
  const processFile = `${directory}/process.json`;
  const script = "echo beside; while :; do busybox sleep 1; done";
  const args = ["/bin/busybox", "sh", "-c", script];
  const user = { uid: 0, gid: 0 };
  await Deno.writeTextFile(
    processFile,
    JSON.stringify({ user, args, env: ["PATH=/bin"], cwd: "/" }),
  );
  const stdout = await world.output("beside");
  const { waiterPid, pid } = await runsc.exec({
    id: "pod",
    processFile,
    stdio: { stdout },
    pidFile: `${directory}/waiter`,
    insidePidFile: `${directory}/inside`,
  });
  await until("it writes", async () => await Deno.readTextFile(stdout) === "beside\n");
  const waiter = await launcher.identify(waiterPid);
  assert.ok(waiter);
  await launcher.kill(waiter);
  assert.ok((await runsc.pids("pod")).includes(pid));
  await runsc.kill("pod", 9, { pid });
  await until("it ends", async () => !(await runsc.pids("pod")).includes(pid));
});

Deno.test("what cannot be is refused in plain words, and leaves nothing", async () => {
  await using world = await RunscWorld.open();
  const { runsc, directory } = world;
  await assertFails(runsc.state("nosuch"), "NotFound", /^cannot look at container "nosuch": /);
  await runsc.delete("nosuch");
  await assertFails(
    runsc.create({ ...SANDBOX, bundle: `${directory}/nosuch` }),
    "InvalidArgument",
    /^cannot create container "pod": .*config\.json/,
  );
  const orphan = await world.bundle({ ...CONTAINER, args: WAITS });
  await assertFails(
    runsc.create({ ...CONTAINER, bundle: orphan }),
    "NotFound",
    /^cannot create container "first": there is no sandbox "pod"$/,
  );
  assert.deepEqual(await listRecords(runsc.options.root), []);

  await world.start({ ...SANDBOX, args: WAITS });
  // runsc would forget the one that runs.
  const bundle = `${directory}/pod`;
  await assertFails(runsc.create({ ...SANDBOX, bundle }), "AlreadyExists", /there is one/);
  assert.equal((await runsc.state("pod")).status, "running");
  await assertFails(runsc.start(SANDBOX), "FailedPrecondition", /in state running/);
  await assertFails(runsc.resume("pod"), "FailedPrecondition", /in state running/);
  await assertFails(
    runsc.run("pod", ["nosuch"]),
    "InvalidArgument",
    /^cannot run "nosuch" in container "pod": exec: "nosuch": executable file not found in \$PATH$/,
  );
  await assertFails(runsc.update("pod", "/nosuch"), "Unimplemented", /the installed runsc cannot/);
  const missing = await world.bundle({ ...CONTAINER, args: ["/nosuch"] });
  await runsc.create({ ...CONTAINER, bundle: missing });
  await assertFails(
    runsc.start(CONTAINER),
    "InvalidArgument",
    /^cannot start container "first": exec: "\/nosuch": no such file/,
  );
  await assertFails(
    runsc.start(CONTAINER, { stdout: `${directory}/missing/fifo` }),
    "NotFound",
    /^cannot start container "first": cannot open stdout /,
  );
});

Deno.test("a pod is paused and goes on", async () => {
  await using world = await RunscWorld.open();
  await world.start({ ...SANDBOX, args: WAITS });
  await world.runsc.pause("pod");
  assert.equal((await world.runsc.state("pod")).status, "paused");
  await world.runsc.resume("pod");
  assert.equal((await world.runsc.run("pod", ["/bin/busybox", "true"])).status, 0);
});

Deno.test("a pod is saved and restored with its container", async () => {
  await using world = await RunscWorld.open();
  const { runsc, directory, launcher } = world;
  const image = `${directory}/image`;
  await Deno.mkdir(image);
  await world.start({ ...SANDBOX, args: WAITS });
  await world.start({ ...CONTAINER, args: WAITS });
  const before = (await runsc.pids("first")).length;
  await runsc.checkpoint("pod", { imageDirectory: image });
  const { sandboxPid } = await readRecord(runsc.options.root, SANDBOX) ?? { sandboxPid: 0 };
  await until("the sandbox ends", async () => await launcher.identify(sandboxPid) === undefined);
  await removeRecord(runsc.options.root, CONTAINER);
  await removeRecord(runsc.options.root, SANDBOX);
  for (const one of [SANDBOX, CONTAINER]) {
    await runsc.restore({ ...one, bundle: `${directory}/${one.id}` }, image);
  }
  assert.equal((await runsc.pids("first")).length, before);
  assert.equal((await runsc.run("first", ["/bin/busybox", "true"])).status, 0);
});

Deno.test("a sandbox that crashes leaves its last words", async () => {
  await using world = await RunscWorld.open();
  const { launcher, directory } = world;
  const panicLog = `${directory}/panic.log`;
  const runsc = world.runsc.with({ panicLog });
  await runsc.create({ ...SANDBOX, bundle: await world.bundle({ ...SANDBOX, args: WAITS }) });
  const { pid } = await runsc.state("pod");
  const sandbox = await launcher.identify(pid);
  assert.ok(sandbox);
  // What Go answers with its stacks.
  await launcher.signal(sandbox, 6);
  await until("it ends", async () => await launcher.identify(pid) === undefined);
  assert.match(await Deno.readTextFile(panicLog), /SIGABRT[\s\S]*goroutine/);
});

Deno.test("a creation that is given up leaves no process and no file", async () => {
  await using world = await RunscWorld.open();
  const { runsc } = world;
  const bundle = await world.bundle({ ...SANDBOX, args: WAITS });
  const stop = new AbortController();
  const creating = runsc.create({ ...SANDBOX, bundle }, { signal: stop.signal });
  await until(
    "the sandbox begins",
    async () => (await world.processes()).some((line) => line.startsWith("runsc-sandbox")),
  );
  stop.abort();
  // In the last moment it may have been made.
  await creating.then(
    () => undefined,
    (error) => assert.match(`${error}`, /cannot create container "pod": cancelled/),
  );
  if (await readRecord(runsc.options.root, SANDBOX) === undefined) {
    assert.deepEqual(await world.processes(), []);
    assert.deepEqual(await Array.fromAsync(Deno.readDir(runsc.options.root)), []);
  }
  await assertFails(
    runsc.state("pod", { signal: stop.signal }),
    "Cancelled",
    /cannot look at container "pod"/,
  );
});

Deno.test("a runsc that does not end is ended with all that it started", async () => {
  await using world = await RunscWorld.open();
  const { directory } = world;
  const program = `${directory}/runsc`;
  // What it starts for a creation detaches itself, as sandboxes do.
  const stays = `tail -f ${program}`;
  const script = `#!/bin/sh\ncase "$*" in *" create "*) setsid ${stays} & esac\nexec ${stays}\n`;
  await Deno.writeTextFile(program, script, { mode: 0o755 });
  const slow = new Runsc({ ...world.runsc.options, program, timeoutMs: 300 });
  const bundle = await world.bundle({ ...SANDBOX, args: WAITS });
  await assertFails(
    slow.create({ ...SANDBOX, bundle }),
    "DeadlineExceeded",
    /^cannot create container "pod": .*did not end within 300 ms/,
  );
  assert.deepEqual(await world.processes(), []);
  await assertFails(slow.state("pod"), "DeadlineExceeded", /no end after 300 ms/);
  assert.deepEqual(await world.processes(), []);
});

Deno.test("a runsc that is missing is said so", async () => {
  await using world = await RunscWorld.open();
  const missing = world.runsc.with({ program: "/nosuch/runsc" });
  await assertFails(missing.state("pod"), "FailedPrecondition", /missing: run "deno task setup"/);
  const bundle = await world.bundle({ ...SANDBOX, args: WAITS });
  await assertFails(
    missing.create({ ...SANDBOX, bundle }),
    "FailedPrecondition",
    /cannot run "\/nosuch\/runsc": no such program/,
  );
});
