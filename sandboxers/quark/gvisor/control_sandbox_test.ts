import assert from "node:assert/strict";
import { assertFails, run, until } from "../../host/testing/fixture.ts";
import { Directory, Reader } from "../../host/testing/streams.ts";
import type { StdioSpec } from "../../lifecycle/spec.ts";
import { SentryControl } from "./control.ts";
import { CONTAINER, NO_STDIO, RealSandbox } from "./testing/real_sandbox.ts";

const never = new AbortController().signal;

/** Collects what is written to an output. */
function collector() {
  let text = "";
  const writable = new WritableStream<Uint8Array>({
    write: (bytes) => void (text += new TextDecoder().decode(bytes)),
  });
  return { stream: { kind: "writable", writable } as const, text: () => text };
}

Deno.test("real sandbox: the control socket of the installed runsc is understood", async () => {
  await using sandbox = await RealSandbox.start("exec sleep 1000");
  const { control } = sandbox;
  await control.probe();
  assert.equal(await control.state(CONTAINER), "running");
  const commands = async (of: string) =>
    (await control.processes(of)).map(({ command }) => command).sort().join();
  await until("it runs", async () => await commands(CONTAINER) === "sleep");
  await until("both run", async () => await commands("") === "sleep,sleep");
  const { pids, memoryBytes } = await control.stats(CONTAINER);
  assert.equal(pids, 1);
  assert.ok(memoryBytes > 0);
  await assertFails(control.stats("nobody"), "NotFound", /container "nobody" not found/);
  await control.pause();
  await control.resume();
  // One that is given up does not disturb another.
  const giveUp = new AbortController();
  const [one, other] = [control.wait(CONTAINER, giveUp.signal), control.wait(CONTAINER, never)];
  giveUp.abort();
  await assertFails(one, "Cancelled", /cancelled/);
  await control.signal(CONTAINER, 9, "all");
  assert.deepEqual(await other, { status: 137, signal: 9 });
  assert.deepEqual(await control.wait(CONTAINER, never), { status: 137, signal: 9 });
  assert.equal(await control.state(CONTAINER), "stopped");
  await assertFails(control.signal(CONTAINER, 9, "init"), "NotFound", /no such process/);
  await control.destroy(CONTAINER);
  await assertFails(control.wait(CONTAINER, never), "NotFound", /not found/);
});

Deno.test("real sandbox: processes are started without runsc, with the streams they are given", async () => {
  await using sandbox = await RealSandbox.start("sleep 1000");
  const { control } = sandbox;
  const [out, err] = [collector(), collector()];
  await using stdio = await sandbox.open({
    stdin: { kind: "readable", readable: new Blob(["typed\n"]).stream() },
    stdout: out.stream,
    stderr: err.stream,
    terminal: false,
  });
  const script = "cat; busybox id -u; busybox id -G; pwd; echo $NAME; " +
    "busybox grep CapBnd /proc/self/status; echo opened >/dev/stderr; exit 7";
  const pid = await sandbox.exec(["sh", "-c", script], stdio, {
    cwd: "/tmp",
    env: ["PATH=/bin", "NAME=value"],
    user: { uid: 1000, gid: 1001, additionalGids: [1002] },
    capabilities: {
      bounding: ["CAP_CHOWN", "CAP_NET_RAW"],
      permitted: ["CAP_CHOWN", "CAP_NET_RAW"],
      effective: ["CAP_CHOWN", "CAP_NET_RAW"],
      inheritable: [],
      ambient: [],
    },
  });
  assert.deepEqual(await control.waitPid(CONTAINER, pid, never), { status: 7 });
  await stdio.finished("exited");
  assert.match(out.text(), /^typed\n1000\n1001 1002\n\/tmp\nvalue\nCapBnd:\t0+1\n$/);
  assert.equal(err.text(), "opened\n");
  await assertFails(control.waitPid(CONTAINER, pid, never), "NotFound", /no such process/);
  await using none = await sandbox.open(NO_STDIO);
  await assertFails(
    sandbox.exec(["missing"], none),
    "InvalidArgument",
    /^cannot run a process in container "container": exec: "missing": executable file not found/,
  );
  // One that is given up does not go on.
  const giveUp = new AbortController();
  const unwanted = sandbox.exec(["sleep", "2000"], none, {}, giveUp.signal);
  giveUp.abort();
  await assertFails(unwanted, "Cancelled", /cancelled by the caller$/);
  const sleeper = await sandbox.exec(["sleep", "1000"], none);
  const waiting = control.waitPid(CONTAINER, sleeper, never);
  await control.signal(CONTAINER, 15, { pid: sleeper });
  assert.deepEqual(await waiting, { status: 143, signal: 15 });
  const count = async () => (await control.processes(CONTAINER)).length;
  await until("only the first one runs", async () => await count() === 1);
});

Deno.test("real sandbox: a process has a terminal, hears of its size, and is lost with its sandbox", async () => {
  await using sandbox = await RealSandbox.start("sleep 1000");
  const { control } = sandbox;
  await using place = await Directory.make();
  const [input, output] = [await place.fifo(), await place.fifo()];
  using out = new Reader(output);
  const stdio: StdioSpec = {
    ...NO_STDIO,
    stdin: { kind: "path", path: input },
    stdout: { kind: "path", path: output },
    terminal: true,
    terminalSize: { columns: 101, rows: 33 },
  };
  await using handed = await sandbox.open(stdio);
  const script = "stty size; trap 'stty size' WINCH; while :; do read x && echo got $x; done";
  const pid = await sandbox.exec(["sh", "-c", script], handed);
  const ended = control.waitPid(CONTAINER, pid, never);
  await out.until(/33 101\r\n/);
  const client = await Deno.open(input, { write: true });
  await client.write(new TextEncoder().encode("line\n"));
  await out.until(/got line\r\n/);
  await handed.resize(55, 44);
  await control.signal(CONTAINER, 28, { foregroundOf: pid });
  await out.until(/44 55\r\n/);
  // All who wait hear of the end of the sandbox, and so does the client of the terminal.
  const lost = /^cannot wait for .*: the sandbox has ended$/;
  await Promise.all([
    assertFails(ended, "Unavailable", lost),
    assertFails(control.wait(CONTAINER, never), "Unavailable", lost),
    new Promise((resolve) => setTimeout(resolve, 20)).then(() => sandbox.kill()),
  ]);
  client.close();
  await handed.finished("killed");
  await out.rest();
  await using none = await sandbox.open(NO_STDIO);
  await assertFails(sandbox.exec(["true"], none), "Unavailable", /the sandbox has ended$/);
  await assertFails(
    SentryControl.connect(control.path, (path) => Deno.connect({ transport: "unix", path })),
    "Unavailable",
    /the sandbox has ended$/,
  );
  assert.equal(await run("find", sandbox.directory, "-name", "control"), "");
});
