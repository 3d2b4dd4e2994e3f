import assert from "node:assert/strict";
import { SandboxError } from "../../lifecycle/errors.ts";
import { containerSpec, sandboxSpec } from "../../lifecycle/testing/specs.ts";
import { type MadeRun, RunWorld } from "./testing/world.ts";

/** Asks until something is so. */
async function until(what: string, isSo: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!await isSo()) {
    assert.ok(performance.now() < deadline, `${what}: not in time`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function isThere(world: RunWorld, { sandboxId }: MadeRun): boolean {
  return world.sandboxer.sandboxes().some(({ spec }) => spec.id === sandboxId);
}

/** Nothing is left of any sandbox. */
async function expectEmpty(world: RunWorld): Promise<void> {
  await until(
    "nothing to be left",
    async () =>
      world.host.live().length === 0 && world.mounts.targets.size === 0 &&
      world.sandboxer.sandboxes().length === 0 &&
      (await world.left("runs")).length === 0 && (await world.left("io")).length === 0,
  );
  assert.deepEqual([...world.host.violations, ...world.mounts.violations], []);
}

Deno.test("a sandbox runs: its output is kept, and it is stopped when it has ended", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box" });
  assert.equal(run.name, "box");
  world.write(run, "out\n");
  world.write(run, "err\n", "stderr");
  await until("the output", async () => (await world.logs("box")).length === 8);
  world.write(run, "last words");
  world.end(run, 3);
  await until("its end", () => world.sandboxer.sandbox(run.sandboxId).state === "stopped");
  assert.match(await world.logs("box"), /last words$/);
  assert.equal(world.sandboxer.process(run.containerId, "").exit?.status, 3);
  assert.deepEqual(world.host.live(), []);
  await world.sandboxer.deleteSandbox(run.sandboxId);
  await expectEmpty(world);
});

Deno.test("a name is given once; without one it is made up", async () => {
  await using world = await RunWorld.make();
  const first = await world.run({ name: "box" });
  await assert.rejects(world.run({ name: "box" }), {
    code: "AlreadyExists",
    message: 'cannot make a sandbox with the name "box": there is one: remove it, or choose ' +
      "another name",
  });
  const other = await world.run();
  assert.match(other.name, /^[a-z]+-[a-z]+$/);
  await world.sandboxer.deleteSandbox(first.sandboxId);
  await world.run({ name: "box" });
});

Deno.test("nothing is left of a sandbox that cannot be made, whatever fails", async () => {
  await using world = await RunWorld.make();
  const steps = ["driver.start", "driver.create-container", "driver.start-process"];
  for (const step of steps) {
    world.gate.fail(step, new SandboxError("ResourceExhausted", `${step} fails`));
    await assert.rejects(world.run({ name: "box" }), { code: "ResourceExhausted" });
    await expectEmpty(world);
  }
  await assert.rejects(
    world.run({ rootfs: { source: { case: "stagedDirectory", value: "/etc" } } }),
    { code: "InvalidArgument", message: /cannot take over "\/etc": it is elsewhere/ },
  );
  await expectEmpty(world);
  // The name is free again.
  await world.run({ name: "box" });
});

Deno.test("nothing is left where the caller gives up while it is made", async () => {
  await using world = await RunWorld.make();
  const caller = new AbortController();
  const hold = world.gate.hold("driver.start-process");
  const made = world.run({}, caller.signal);
  await hold.reached;
  caller.abort();
  hold.release();
  await assert.rejects(made, { code: "Cancelled" });
  await expectEmpty(world);
});

Deno.test("one that is to be removed is gone when it has ended, after its clients have read all", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box", remove: true, startOnAttach: true });
  assert.equal(world.sandboxer.process(run.containerId, "").state, "created");
  const client = world.attach({ message: { case: "attach", value: { target: "box" } } });
  assert.deepEqual(await client.hear(), ["started", ""]);
  world.write(run, "first\n");
  assert.deepEqual(await client.hear(), ["stdout", "first\n"]);
  world.write(run, "last\n");
  world.end(run, 4);
  await until("its end", () => world.sandboxer.process(run.containerId, "").state === "stopped");
  assert.deepEqual(await client.hearAll(), [["stdout", "last\n"], ["exit", "4"]]);
  await expectEmpty(world);
});

Deno.test("one that its first client cannot start is gone, and the client is told why", async () => {
  await using world = await RunWorld.make();
  await world.run({ name: "box", startOnAttach: true });
  world.gate.fail("driver.start-process", new SandboxError("NotFound", "no such program"));
  const client = world.attach({ message: { case: "attach", value: { target: "box" } } });
  await assert.rejects(client.hear(), { code: "NotFound", message: /no such program/ });
  await expectEmpty(world);
});

Deno.test("several clients are attached; one that comes late can have what was before", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box", stdin: true });
  world.write(run, "before\n");
  await until("the output", async () => (await world.logs("box")) !== "");
  const late = world.attach({ message: { case: "attach", value: { target: "box" } } });
  const all = world.attach({
    message: { case: "attach", value: { target: "box", withLogs: true } },
  });
  await late.hear();
  await all.hear();
  world.write(run, "after\n");
  assert.equal(await late.hearUntil("after\n"), "after\n");
  assert.equal(await all.hearUntil("after\n"), "before\nafter\n");
  // To leave is not the end.
  await late.leave();
  world.write(run, "more\n");
  assert.equal(await all.hearUntil("more\n"), "more\n");
  assert.equal(world.sandboxer.process(run.containerId, "").state, "running");
  world.end(run);
  assert.deepEqual(await all.hearAll(), [["exit", "0"]]);
});

Deno.test("what a client types goes into the container, in order", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box", stdin: true });
  const client = world.attach({ message: { case: "attach", value: { target: "box" } } });
  await client.hear();
  client.type("one ");
  client.type("two");
  const fifo = `${world.dir}/io/${run.sandboxId}/${run.containerId}/stdin`;
  using file = await Deno.open(fifo, { read: true });
  const buffer = new Uint8Array(100);
  let heard = "";
  while (heard.length < 7) {
    heard += new TextDecoder().decode(buffer.subarray(0, await file.read(buffer) ?? 0));
  }
  assert.equal(heard, "one two");
  client.say({ message: { case: "closeStdin", value: {} } });
  assert.equal(await file.read(buffer), null);
  await until("the end of its input", () => world.gate.steps.includes("driver.close-stdin"));
  client.say({ message: { case: "resize", value: { columns: 80, rows: 24 } } });
  client.say({ message: { case: "signal", value: 15 } });
  assert.deepEqual(await client.hearAll(), [["exit", "143"]]);
});

Deno.test("a client that says what cannot be meant is told so, and nobody else notices", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box" });
  const attach = { message: { case: "attach", value: { target: "box" } } } as const;
  const wrong = [
    { message: { case: "resize", value: { columns: 70_000, rows: 1 } } },
    { message: { case: "signal", value: 1_000 } },
    attach,
    {},
  ] as const;
  for (const message of wrong) {
    const client = world.attach(attach);
    await client.hear();
    client.say(message);
    await assert.rejects(client.hearAll(), { code: "InvalidArgument" });
  }
  for (const first of [{ message: { case: "signal", value: 9 } }, {}] as const) {
    await assert.rejects(world.attach(first).hear(), {
      code: "InvalidArgument",
      message: /expected attach or exec/,
    });
  }
  const nobody = { message: { case: "attach", value: { target: "nobody" } } } as const;
  await assert.rejects(world.attach(nobody).hear(), { code: "NotFound" });
  assert.equal(world.sandboxer.process(run.containerId, "").state, "running");
});

Deno.test("an exec has its own streams, and is gone when it has ended", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box", process: { args: ["app"], env: ["A=1"], uid: 5 } });
  const client = world.attach({
    message: {
      case: "exec",
      value: { target: "box", process: { args: ["tool"], env: ["B=2"] }, inherit: true },
    },
  });
  const [kind, exec] = await client.hear();
  assert.equal(kind, "started");
  const [spec] = world.sandboxer.container(run.containerId).execIds;
  assert.equal(spec, exec);
  world.write(run, "out\n", "stdout", exec);
  assert.deepEqual(await client.hear(), ["stdout", "out\n"]);
  world.write(run, "err\n", "stderr", exec);
  world.end(run, 7, exec);
  assert.deepEqual(await client.hearAll(), [["stderr", "err\n"], ["exit", "7"]]);
  assert.deepEqual(world.sandboxer.container(run.containerId).execIds, []);
  const left = await world.left(`io/${run.sandboxId}/${run.containerId}`);
  assert.deepEqual(left.sort(), ["stderr", "stdout"]);
  assert.equal(await world.logs("box"), "");
});

Deno.test("an exec inherits what it does not say otherwise", async () => {
  await using world = await RunWorld.make();
  const user = { uid: 5, gid: 6, additionalGids: [7] };
  const run = await world.run({
    process: { args: ["app"], env: ["A=1", "B=1"], cwd: "/srv", ...user },
  });
  const asked: [Record<string, unknown>, boolean][] = [];
  using _heard = world.sandboxer.subscribe((event) => {
    if (event.kind === "exec-added") asked.push([{ ...event.spec.process }, true]);
  });
  const { containerId: target } = run;
  const process = { args: ["tool"], env: ["B=2"] };
  for (const more of [{ inherit: true }, { inherit: true, userGiven: true }, {}]) {
    const client = world.attach({ message: { case: "exec", value: { target, process, ...more } } });
    await client.hear();
    await client.leave();
  }
  const root = { uid: 0, gid: 0, additionalGids: [] };
  assert.deepEqual(asked.map(([spec]) => spec), [
    { args: ["tool"], env: ["PATH=/bin", "A=1", "B=2"], cwd: "/srv", user },
    { args: ["tool"], env: ["PATH=/bin", "A=1", "B=2"], cwd: "/srv", user: root },
    { args: ["tool"], env: ["PATH=/bin", "B=2"], cwd: "/", user: root },
  ]);
});

Deno.test("an exec ends when its client goes away, also while it starts", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box" });
  const first = { message: { case: "exec", value: { target: "box", process: { args: ["a"] } } } };
  const gone = async (): Promise<void> => {
    await until(
      "the exec to be gone",
      async () =>
        world.sandboxer.container(run.containerId).execIds.length === 0 &&
        (await world.left(`io/${run.sandboxId}/${run.containerId}`)).length === 2,
    );
  };
  const client = world.attach({ message: { ...first.message, case: "exec" } });
  await client.hear();
  const waiting = client.hear().catch(() => undefined);
  await client.leave();
  await waiting;
  await gone();
  const hold = world.gate.hold("driver.exec");
  const starting = world.attach({ message: { ...first.message, case: "exec" } });
  const answer = starting.hear();
  await hold.reached;
  const left = starting.leave();
  hold.release();
  await assert.rejects(answer, { code: "Cancelled" });
  await left;
  await gone();
  assert.deepEqual(world.host.violations, []);
});

Deno.test("an exec waits while its client does not read", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box" });
  const client = world.attach({
    message: { case: "exec", value: { target: "box", process: { args: ["a"] } } },
  });
  const [, exec] = await client.hear();
  // A FIFO takes 64 KiB, and a quarter of a MiB is kept for the client.
  const path = `${world.dir}/io/${run.sandboxId}/${run.containerId}/${exec}/stdout`;
  using file = await Deno.open(path, { append: true });
  const writing = (async () => {
    for (let i = 0; i < 40; i++) await file.write(new TextEncoder().encode("x".repeat(32 * 1024)));
  })();
  let isDone = false;
  void writing.then(() => isDone = true);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(isDone, false);
  let heard = 0;
  while (heard < 40 * 32 * 1024) heard += (await client.hear())[1].length;
  await writing;
  world.end(run, 0, exec);
  assert.deepEqual(await client.hearAll(), [["exit", "0"]]);
});

Deno.test("containers of containerd have no streams here, and can be exec'd in", async () => {
  await using world = await RunWorld.make();
  for (const [namespace, pod] of [["k8s.io", "pod"], ["default", "plain"]] as const) {
    await world.sandboxer.createSandbox(sandboxSpec(pod, { namespace }));
    await world.sandboxer.startSandbox(pod);
    await world.sandboxer.createContainer(containerSpec(`${pod}-c`, pod));
    await world.sandboxer.startProcess(`${pod}-c`, "");
  }
  const attach = { message: { case: "attach", value: { target: "pod" } } } as const;
  await assert.rejects(world.attach(attach).hear(), {
    code: "FailedPrecondition",
    message: 'cannot attach to container "pod-c": it was made by containerd, which has its ' +
      'streams: use "crictl attach pod-c"',
  });
  await assert.rejects(world.logs("pod"), { message: /use "crictl logs pod-c"$/ });
  await assert.rejects(world.logs("plain"), { message: /its client has its output$/ });
  const client = world.attach({
    message: { case: "exec", value: { target: "pod", process: { args: ["a"] } } },
  });
  const [, exec] = await client.hear();
  const made: MadeRun = { sandboxId: "pod", containerId: "pod-c", name: "" };
  world.end(made, 0, exec);
  assert.deepEqual(await client.hearAll(), [["exit", "0"]]);
  assert.deepEqual(await world.left("io"), []);
});

Deno.test("containers that outlive their sandboxer are gone on with", async () => {
  await using first = await RunWorld.make();
  const run = await first.run({ name: "box", remove: true, stdin: true });
  const kept = await first.run({ name: "kept" });
  first.write(run, "before\n");
  await until("the output", async () => (await first.logs("box")) !== "");
  // What is written meanwhile stays in the FIFO for as long as somebody has it open.
  const fifo = `${first.dir}/io/${run.sandboxId}/${run.containerId}/stdout`;
  using held = await Deno.open(fifo, { read: true, write: true });
  const client = first.attach({ message: { case: "attach", value: { target: "box" } } });
  await client.hear();
  const cutOff = assert.rejects(client.hearAll());
  const executing = first.attach({
    message: { case: "exec", value: { target: "kept", process: { args: ["a"] } } },
  });
  await executing.hear();
  const execCutOff = assert.rejects(executing.hearAll());
  const next = await first.next();
  await client.leave();
  await cutOff;
  await execCutOff;
  await held.write(new TextEncoder().encode("meanwhile\n"));
  next.write(run, "after\n");
  await until("the output", async () => (await next.logs("box")).endsWith("after\n"));
  assert.equal(await next.logs("box"), "before\nmeanwhile\nafter\n");
  assert.deepEqual(next.sandboxer.container(kept.containerId).execIds, []);
  next.end(run);
  await until("it to be removed", () => !isThere(next, run));
  assert.ok(isThere(next, kept));
  await next.sandboxer.deleteSandbox(kept.sandboxId);
  await expectEmpty(next);
  await next.runs[Symbol.asyncDispose]();
  await next.sandboxer.close();
});

Deno.test("one that is removed while a client has still to read keeps nobody else waiting", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box", remove: true });
  const client = world.attach({ message: { case: "attach", value: { target: "box" } } });
  assert.equal((await client.hear())[0], "started");
  world.end(run);
  // It waits for the client now, which does not read.
  await new Promise((resolve) => setTimeout(resolve, 200));
  await world.sandboxer.deleteSandbox(run.sandboxId);
  const before = performance.now();
  await expectEmpty(world);
  const ms = performance.now() - before;
  assert.ok(ms < 5_000, `nothing else happened for ${ms} ms`);
  await client.leave();
});

Deno.test("containers that end with their sandboxer keep their logs, or are removed", async () => {
  await using first = await RunWorld.make({ outlives: false });
  const kept = await first.run({ name: "kept" });
  const removed = await first.run({ name: "removed", remove: true });
  first.write(kept, "said\n");
  await until("the output", async () => (await first.logs("kept")) !== "");
  const next = await first.next();
  await until("it to be removed", () => !isThere(next, removed));
  assert.equal(await next.logs("kept", { follow: true }), "said\n");
  assert.equal(next.sandboxer.process(kept.containerId, "").exit?.reason, "lost");
  await next.sandboxer.deleteSandbox(kept.sandboxId);
  await expectEmpty(next);
  await next.runs[Symbol.asyncDispose]();
  await next.sandboxer.close();
});

Deno.test("what is half made when a sandboxer ends is removed by the next one", async () => {
  await using first = await RunWorld.make();
  const hold = first.gate.hold("driver.start-process");
  const made = first.run({ name: "box" });
  made.catch(() => undefined);
  await hold.reached;
  await Deno.mkdir(`${first.dir}/runs/stray/log`, { recursive: true });
  await Deno.mkdir(`${first.dir}/io/stray/c`, { recursive: true });
  const next = await first.next();
  await expectEmpty(next);
  await next.runs[Symbol.asyncDispose]();
  await next.sandboxer.close();
});

Deno.test("what is still mounted is not removed with a sandbox's directory", async () => {
  await using world = await RunWorld.make();
  const run = await world.run({ name: "box" });
  // Stands for the content of somebody's directory that is still mounted there.
  await Deno.writeTextFile(`${world.dir}/runs/${run.sandboxId}/rootfs/theirs`, "precious");
  await world.sandboxer.deleteSandbox(run.sandboxId);
  await until("the warning", () => world.logged.some((line) => line.includes("still mounted")));
  const theirs = `${world.dir}/runs/${run.sandboxId}/rootfs/theirs`;
  assert.equal(await Deno.readTextFile(theirs), "precious");
});

Deno.test("a staged directory becomes the sandbox's, and only one that is staged", async () => {
  await using world = await RunWorld.make();
  const staging = `${world.dir}/staging`;
  const staged = (value: string) => ({ source: { case: "stagedDirectory", value } as const });
  await Deno.mkdir(`${staging}/one`);
  await Deno.writeTextFile(`${staging}/one/app`, "");
  await Deno.symlink("/etc", `${staging}/link`);
  await Deno.writeTextFile(`${staging}/file`, "");
  for (const name of ["link", "file", "one/..", "", "../runs", "one/deeper"]) {
    await assert.rejects(
      world.run({ rootfs: staged(`${staging}/${name}`) }),
      { code: "InvalidArgument" },
      name,
    );
  }
  await assert.rejects(world.run({ rootfs: staged(`${staging}/nothing`) }), { code: "NotFound" });
  const run = await world.run({ rootfs: staged(`${staging}/one`) });
  assert.deepEqual((await world.left("staging")).sort(), ["file", "link"]);
  assert.deepEqual(await world.left(`runs/${run.sandboxId}/staged`), ["app"]);
  await world.sandboxer.deleteSandbox(run.sandboxId);
  await expectEmpty(world);
});

Deno.test("kinds without snapshots say so", async () => {
  await using world = await RunWorld.make();
  await world.run({ name: "box" });
  const call = { signal: new AbortController().signal };
  const { handlers } = world.runs;
  const { create } = await import("@bufbuild/protobuf");
  const { RestoreRequestSchema, SnapshotRequestSchema } = await import(
    "../../../proto/gen/quasaur/management/v1/management_pb.ts"
  );
  const snapshot = create(SnapshotRequestSchema, { target: "box", directory: "/a" });
  await assert.rejects(handlers.snapshot(snapshot, call), {
    code: "Unimplemented",
    message: /fake sandboxes have no snapshots/,
  });
  await assert.rejects(handlers.restore(create(RestoreRequestSchema, {}), call), {
    code: "Unimplemented",
  });
});
