import assert from "node:assert/strict";
import type { VmmContainer, VmmRunOptions, VmmSandbox, VmmSandboxOptions } from "./vmm_api.ts";
import { EmbeddedVmmSandboxer } from "./vmm_sandboxer.ts";
import { ScriptDriver } from "./testing/script_driver.ts";

/** A sandboxer on scripts, with a sandbox in it. */
class Bench implements AsyncDisposable {
  readonly driver = new ScriptDriver();
  readonly warnings: string[] = [];
  released = 0;
  readonly sandboxer = new EmbeddedVmmSandboxer({
    driver: this.driver,
    [Symbol.asyncDispose]: () => {
      this.released++;
      return Promise.resolve();
    },
  }, { onWarning: (message) => this.warnings.push(message) });

  async run(command: readonly string[], options: Partial<VmmRunOptions> = {}) {
    const sandbox = await this.sandboxer.createSandbox();
    return await sandbox.run({ rootfs: "/rootfs", command, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sandboxer[Symbol.asyncDispose]();
    assert.deepEqual(this.warnings, []);
    assert.equal(this.released, 1);
  }
}

async function text(container: Pick<VmmContainer, "output">): Promise<string> {
  return new TextDecoder().decode((await container.output()).stdout);
}

Deno.test("a machine's container is read to its end, with its exit", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["echo", "hello", "you"]);
  const { exit, stdout, stderr } = await container.output();
  assert.equal(exit.status, 0);
  assert.equal(new TextDecoder().decode(stdout), "hello you\n");
  assert.equal(stderr.length, 0);
});

Deno.test("a machine's container ends where nobody has read yet, and is read afterwards", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["flood", "60000"]);
  assert.equal((await container.exit).status, 0);
  assert.equal((await text(container)).length, 60_000);
});

Deno.test("a machine's container waits for its reader once the pipe is full", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["flood", "1000000"]);
  let ended = false;
  void container.exit.then(() => ended = true);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(ended, false);
  assert.equal((await text(container)).length, 1_000_000);
});

Deno.test("disposing of a machine ends containers that nobody reads, and their writers", async () => {
  await using bench = new Bench();
  const sandbox = await bench.sandboxer.createSandbox();
  const options = { rootfs: "/r", command: ["flood", "1000000"] };
  const container = await sandbox.run(options);
  await sandbox[Symbol.asyncDispose]();
  assert.equal((await container.exit).status, 137);
  await assert.rejects(sandbox.run(options), { code: "FailedPrecondition", message: /it is gone/ });
});

Deno.test("what a program writes to a container comes back", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["cat"], { stdin: "piped" });
  const writer = container.stdin.getWriter();
  const bytes = new Uint8Array(200_000).map((_, i) => i * 7 & 0xff);
  const sent = writer.write(bytes).then(() => writer.close());
  const { stdout, exit } = await container.output();
  await sent;
  assert.equal(exit.status, 0);
  assert.deepEqual(stdout, bytes);
});

Deno.test("writing to a container that has ended fails, and says why", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["exit", "3"], { stdin: "piped" });
  assert.equal((await container.exit).status, 3);
  await assert.rejects(container.stdin.getWriter().write(new Uint8Array(1)), {
    code: "FailedPrecondition",
    message: /^cannot write stdin of container ".*": nobody reads it any more$/,
  });
});

Deno.test("streams that are not piped cannot be had, and say how to pipe them", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["exit"], { stdout: "null", stderr: "inherit" });
  assert.throws(() => container.stdin, { code: "FailedPrecondition", message: /stdin: "piped"/ });
  assert.throws(() => container.stdout, { code: "FailedPrecondition" });
  const stdio = bench.driver.containers[0]?.stdio;
  assert.deepEqual(stdio, {
    stdin: { kind: "null" },
    stdout: { kind: "null" },
    stderr: { kind: "fd", fd: 2 },
    terminal: false,
  });
});

Deno.test("a process is started beside a container's first, with its own streams", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["sleep"]);
  {
    await using process = await container.exec({
      command: ["cat"],
      stdin: "piped",
      env: { A: "b" },
      workdir: "/tmp",
      user: { uid: 5 },
    });
    const writer = process.stdin.getWriter();
    await writer.write(new TextEncoder().encode("in\n"));
    await writer.close();
    assert.equal(await text(process), "in\n");
    assert.equal((await process.exit).status, 0);
  }
  assert.deepEqual(bench.driver.processes[1]?.spec, {
    args: ["cat"],
    env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b"],
    cwd: "/tmp",
    user: { uid: 5, gid: 5, additionalGids: [] },
  });
  await using other = await container.exec({ command: ["complain", "no"] });
  assert.equal(new TextDecoder().decode((await other.output()).stderr), "no\n");
});

Deno.test("disposing of a container ends the processes in it", async () => {
  await using bench = new Bench();
  const container = await bench.run(["sleep"]);
  const process = await container.exec({ command: ["sleep"] });
  await container[Symbol.asyncDispose]();
  assert.equal((await process.exit).status, 137);
  assert.ok(bench.driver.deeds.includes(`delete ${container.id}`));
});

Deno.test("a signal goes to the process that it is for", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["sleep"]);
  await using process = await container.exec({ command: ["sleep"] });
  await process.kill("SIGTERM");
  assert.equal((await process.exit).status, 143);
  assert.deepEqual(bench.driver.processes.map(({ signals }) => signals), [[], [15]]);
  await process.kill();
});

Deno.test("a terminal has one output, its size, and changes it", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["sleep"], { terminal: { columns: 80, rows: 25 } });
  await container.resize({ columns: 100, rows: 40 });
  const [process] = bench.driver.processes;
  assert.equal(process?.stdio.terminal, true);
  assert.deepEqual(process?.stdio.terminalSize, { columns: 80, rows: 25 });
  assert.deepEqual(process?.sizes, [[100, 40]]);
  assert.ok(process?.spec.env.includes("TERM=xterm"));
  assert.throws(() => container.stderr, { code: "FailedPrecondition" });
  await assert.rejects(container.resize({ columns: 0, rows: 1 }), { code: "InvalidArgument" });
  await assert.rejects(bench.run(["exit"], { terminal: true, stderr: "piped" }), {
    code: "InvalidArgument",
    message: /stdout carries both/,
  });
});

Deno.test("a container is frozen and thawed", async () => {
  await using bench = new Bench();
  await using container = await bench.run(["sleep"], { id: "c" });
  await container.pause();
  await container.resume();
  assert.deepEqual(bench.driver.deeds, ["pause c", "resume c"]);
});

Deno.test("a machine is asked for as its options say", async () => {
  await using bench = new Bench();
  const options: VmmSandboxOptions = {
    id: "s",
    network: { kind: "user" },
    cpus: 1.5,
    memoryBytes: 1 << 28,
    hostname: "box",
    sharedTree: true,
  };
  await using sandbox = await bench.sandboxer.createSandbox(options);
  await using _container = await sandbox.run({
    image: "/images/a.erofs",
    command: ["exit"],
    readonlyRootfs: true,
    memoryBytes: 1 << 20,
    mounts: [{ source: "/data", destination: "/d", readonly: true }],
  });
  const [spec] = bench.driver.sandboxes;
  assert.deepEqual(spec?.resources, {
    memoryBytes: 1 << 28,
    cpuQuotaUs: 150_000,
    cpuPeriodUs: 100_000,
  });
  assert.deepEqual(spec?.network, { kind: "user" });
  assert.deepEqual(spec?.dns.servers, ["10.0.2.3"]);
  assert.deepEqual(spec?.annotations, { "quasaur.dev/share-fs": "virtiofs" });
  assert.equal(spec?.hostname, "box");
  const [container] = bench.driver.containers;
  assert.deepEqual(container?.rootfs, { kind: "directory", path: "/images/a.erofs" });
  assert.deepEqual(container?.resources, { memoryBytes: 1 << 20 });
  assert.deepEqual(container?.mounts, [{ source: "/data", destination: "/d", readonly: true }]);
  assert.equal(container?.readonlyRootfs, true);
  assert.deepEqual((await sandbox.stats()).memoryBytes, 1);
});

Deno.test("options that cannot be are refused by name", async () => {
  await using bench = new Bench();
  const sandbox = await bench.sandboxer.createSandbox();
  const good = { rootfs: "/r", command: ["exit"] };
  const wrong: [VmmRunOptions, RegExp][] = [
    [{ command: ["a"] }, /expected rootfs, a directory, or image/],
    [{ ...good, image: "/i" }, /both rootfs and image/],
    [{ ...good, command: [] }, /command ""/],
    [{ ...good, command: ["a\0"] }, /command .*NUL/],
    [{ ...good, env: { "": "x" } }, /env ""/],
    [{ ...good, workdir: "x" }, /workdir "x"/],
    [{ ...good, user: { uid: -1 } }, /user.uid -1/],
    [{ ...good, user: { gid: 1.5 } }, /user.gid 1.5/],
    [{ ...good, memoryBytes: 0 }, /memoryBytes 0/],
    [{ ...good, terminal: { columns: 1, rows: 70_000 } }, /terminal.rows 70000/],
    [{ ...good, mounts: [{ source: "/a", destination: "/" }] }, /mounts.destination "\/"/],
  ];
  for (const [options, message] of wrong) {
    await assert.rejects(sandbox.run(options), { code: "InvalidArgument", message });
  }
  for (const options of [{ cpus: 0 }, { memoryBytes: 1.5 }, { hostname: "a b" }]) {
    await assert.rejects(bench.sandboxer.createSandbox(options), { code: "InvalidArgument" });
  }
  assert.deepEqual(bench.driver.containers, []);
});

Deno.test("a start that is given up leaves nothing", async () => {
  await using bench = new Bench();
  const abort = new AbortController();
  const starting = bench.sandboxer.createSandbox({
    id: "s",
    hostname: "slow",
    signal: abort.signal,
  });
  setTimeout(() => abort.abort(), 10);
  await assert.rejects(starting, { code: "Cancelled" });
});

Deno.test("a sandboxer that was disposed of takes nothing on", async () => {
  const bench = new Bench();
  let sandbox: VmmSandbox;
  {
    await using _ = bench;
    sandbox = await bench.sandboxer.createSandbox();
  }
  await assert.rejects(bench.sandboxer.createSandbox(), { code: "FailedPrecondition" });
  await assert.rejects(sandbox.run({ rootfs: "/r", command: ["exit"] }), {
    code: "FailedPrecondition",
  });
});

Deno.test("a driver without snapshots says so", async () => {
  await using bench = new Bench();
  const sandbox = await bench.sandboxer.createSandbox();
  await assert.rejects(sandbox.snapshot("/nowhere/snapshot"), { code: "Unimplemented" });
  await assert.rejects(sandbox.fork(), { code: "Unimplemented" });
  await assert.rejects(bench.sandboxer.restore("/nowhere/snapshot"), {
    code: "NotFound",
    message: /^cannot use the snapshot in "\/nowhere\/snapshot": it has no sandbox\.json/,
  });
});
