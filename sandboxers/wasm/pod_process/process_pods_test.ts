import assert from "node:assert/strict";
import type { SandboxHandle } from "../../lifecycle/driver.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import type { CompiledModules } from "../compiled_modules.ts";
import {
  collect,
  collectedPipe,
  containerSpec,
  guestBytes,
  guestRootfs,
  makeFifo,
  openFifoReader,
  sandboxSpec,
  signal,
  stdioSpec,
  system,
  until,
} from "../fixture.ts";
import { createLog } from "../../log.ts";
import { DEFAULT_LAUNCHER_PATH } from "../native/launcher_file.ts";
import { sha256 } from "../digest.ts";
import { encodeFrame } from "./frames.ts";
import { encodeHello, PROTOCOL_VERSION, SOCKET_FILE } from "./hello.ts";
import { RUNTIME_BYTES } from "./pod_cgroups.ts";
import { ProcessPods, type ProcessPodsOptions } from "./process_pods.ts";
import { UnixSockets } from "./sockets.ts";

/** A directory for the state of pods, and what is logged. */
async function world(more: Partial<ProcessPodsOptions> = {}) {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-pods-" });
  const lines: string[] = [];
  const pods = new ProcessPods({
    directory: `${directory}/processes`,
    podDirectory: `${directory}/pods`,
    taskSocket: `${directory}/task.sock`,
    system,
    log: createLog({ level: "debug", write: (line) => void lines.push(line) }),
    ...more,
  });
  return {
    directory,
    pods,
    lines,
    /** What is left in the state directory. */
    left: async () => {
      const found: string[] = [];
      for (const name of ["processes", "pods"]) {
        const entries = Array.fromAsync(Deno.readDir(`${directory}/${name}`)).catch(() => []);
        found.push(...(await entries).map((entry) => `${name}/${entry.name}`));
      }
      return found;
    },
    [Symbol.asyncDispose]: () => Deno.remove(directory, { recursive: true }),
  };
}

/** Waits until a process has ended and whoever started it has taken note of that. */
async function untilGone(pid: number): Promise<void> {
  await until(`process ${pid} to be gone`, () => {
    try {
      Deno.statSync(`/proc/${pid}`);
      return false;
    } catch (error) {
      return error instanceof Deno.errors.NotFound;
    }
  });
}

/** Specs with ids that no other test has: they name cgroups of the host. */
function podSpec(more: Partial<SandboxSpec> = {}): SandboxSpec {
  return sandboxSpec({ id: `test-${crypto.randomUUID().slice(0, 8)}`, ...more });
}

/** Runs a container to its end. */
async function run(pod: SandboxHandle, rootfs: string, args: readonly string[]) {
  const out = collectedPipe();
  const stdout = { kind: "fd", fd: out.writeFd } as const;
  const container = await pod.createContainer(
    containerSpec(rootfs, args, { id: crypto.randomUUID(), stdio: stdioSpec({ stdout }) }),
    signal,
  );
  const process = await container.start(signal);
  out.close();
  const exit = await process.exited;
  const stats = await container.stats();
  await container.delete();
  return { exit, stats, stdout: await out.text };
}

async function start(pod: SandboxHandle, spec: ContainerSpec) {
  const container = await pod.createContainer(spec, signal);
  return { container, process: await container.start(signal) };
}

Deno.test("a container runs in the pod's process: output, exit code, statistics, exec", async () => {
  await using it = await world();
  await using rootfs = await guestRootfs();
  const pod = await it.pods.start(podSpec(), signal);
  assert.notEqual(pod.pid, Deno.pid);
  assert.equal(pod.outlivesSandboxer, true);
  const hello = await run(pod, rootfs.path, ["/hello.wasm"]);
  assert.deepEqual([hello.exit.status, hello.stdout], [0, "hello from wasm\n"]);
  assert.ok(hello.stats.cpuNs > 0);

  const { container, process } = await start(pod, containerSpec(rootfs.path, ["/sleep.wasm"]));
  assert.ok((await Deno.stat(`/proc/${pod.pid}/task/${process.pid}`)).isDirectory);
  assert.deepEqual(await container.pids(), [process.pid]);
  const out = collectedPipe();
  const exec = await container.exec?.({
    id: "e",
    process: {
      args: ["/args.wasm", "x"],
      env: ["EXIT_CODE=7"],
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
    },
    stdio: stdioSpec({ stdout: { kind: "fd", fd: out.writeFd } }),
  }, signal);
  out.close();
  assert.equal((await exec?.exited)?.status, 7);
  assert.match(await out.text, /^arg \/args\.wasm\narg x\n/);
  await process.kill(15);
  assert.deepEqual((await process.exited).status, 143);
  await process.kill(9);
  await container.delete();
  await container.delete();
  await pod.stop(0);
  await pod.stop(0);
  assert.deepEqual(await pod.exited.then(({ status, reason }) => [status, reason]), [0, "exited"]);
  assert.deepEqual(await it.left(), []);
  await untilGone(pod.pid);
});

Deno.test("limits change while it runs, of the pod's memory too, and a container can be frozen", async () => {
  await using it = await world();
  await using rootfs = await guestRootfs();
  const spec = podSpec({ resources: { memoryBytes: 64 << 20 } });
  const pod = await it.pods.start(spec, signal);
  const group = /:memory:(.*)$/m.exec(await Deno.readTextFile(`/proc/${pod.pid}/cgroup`))?.[1];
  const limit = `/sys/fs/cgroup/memory${group}/memory.limit_in_bytes`;
  const limitBytes = async () => Number(await Deno.readTextFile(limit)) - RUNTIME_BYTES;
  // Where memory is controlled in version 2, the tests with containerd look.
  if (group !== undefined) assert.equal(await limitBytes(), 64 << 20);
  await pod.update?.({ memoryBytes: 128 << 20 });
  if (group !== undefined) assert.equal(await limitBytes(), 128 << 20);

  const { container, process } = await start(pod, containerSpec(rootfs.path, ["/spin.wasm"]));
  const cpuNs = async () => (await container.stats()).cpuNs;
  await container.pause?.();
  const frozenAt = await cpuNs();
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(await cpuNs(), frozenAt);
  await container.resume?.();
  await until("it to go on", async () => await cpuNs() > frozenAt);
  await container.pause?.();
  await process.kill(9);
  assert.equal((await process.exited).status, 137, "a frozen one can be killed");
  await container.delete();
  await pod.stop(0);
  assert.deepEqual(await it.left(), []);
});

Deno.test("a pod with something frozen in it can be stopped, and killed", async () => {
  await using it = await world();
  await using rootfs = await guestRootfs();
  for (const kill of [false, true]) {
    const pod = await it.pods.start(podSpec(), signal);
    const { container, process } = await start(pod, containerSpec(rootfs.path, ["/spin.wasm"]));
    await container.pause?.();
    if (kill) Deno.kill(pod.pid, "SIGKILL");
    else await pod.stop(0);
    assert.equal((await process.exited).status, 137);
    await pod.exited;
    await pod.stop(0);
    assert.deepEqual(await it.left(), []);
  }
});

Deno.test("FIFOs are opened by the pod's process, though it cannot see them", async () => {
  await using it = await world();
  await using rootfs = await guestRootfs();
  const pod = await it.pods.start(podSpec(), signal);
  const fifo = `${it.directory}/stdout`;
  await makeFifo(fifo);
  const reader = openFifoReader(fifo);
  const stdio = stdioSpec({ stdout: { kind: "path", path: fifo } });
  const { process } = await start(pod, containerSpec(rootfs.path, ["/hello.wasm"], { stdio }));
  // From here on there is a writer, so that the reader does not find the end at once.
  const text = collect(reader);
  assert.equal((await process.exited).status, 0);
  assert.equal(await text, "hello from wasm\n");
  const missing = stdioSpec({ stdout: { kind: "path", path: `${it.directory}/none` } });
  await assert.rejects(
    pod.createContainer(
      containerSpec(rootfs.path, ["/hello.wasm"], { id: "b", stdio: missing }),
      signal,
    ),
    (error) => error instanceof SandboxError && error.code === "NotFound",
  );
  await pod.stop(0);
});

Deno.test("containers leave no descriptor and no thread behind in the pod's process", async () => {
  await using it = await world();
  await using rootfs = await guestRootfs();
  const pod = await it.pods.start(podSpec(), signal);
  const count = () => ({
    fds: [...Deno.readDirSync(`/proc/${pod.pid}/fd`)].length,
    threads: [...Deno.readDirSync(`/proc/${pod.pid}/task`)].length,
  });
  for (let i = 0; i < 5; i++) await run(pod, rootfs.path, ["/hello.wasm"]);
  const before = count();
  for (let i = 0; i < 30; i++) {
    await run(pod, rootfs.path, ["/hello.wasm"]);
    await assert.rejects(run(pod, rootfs.path, ["/nothing.wasm"]));
  }
  await until("about as few descriptors and threads as before", () => {
    const after = count();
    // The runtime may make a few of its own at any time; 60 containers would leave far more.
    return after.fds < before.fds + 10 && after.threads < before.threads + 10;
  });
  await pod.stop(0);
});

Deno.test("a process that is killed ends its guests, and can still be stopped", async () => {
  await using it = await world();
  await using rootfs = await guestRootfs();
  const pod = await it.pods.start(podSpec(), signal);
  const { container, process } = await start(pod, containerSpec(rootfs.path, ["/spin.wasm"]));
  Deno.kill(pod.pid, "SIGKILL");
  const exit = await process.exited;
  assert.deepEqual([exit.status, exit.reason], [137, "lost"]);
  assert.match(exit.message ?? "", /process of the pod/);
  assert.deepEqual((await pod.exited).status, 137);
  await assert.rejects(
    pod.createContainer(containerSpec(rootfs.path, ["/hello.wasm"], { id: "b" }), signal),
    (error) => error instanceof SandboxError && error.code === "Unavailable",
  );
  await container.delete();
  await pod.stop(0);
  assert.deepEqual(await it.left(), []);
});

Deno.test("a pod's process logs what the sandboxer does, also when that is changed, and after a restart", async () => {
  const lines: string[] = [];
  const log = createLog({ level: "info", write: (line) => void lines.push(line) });
  await using it = await world({ log, logLevel: log });
  const spec = podSpec();
  const pod = await it.pods.start(spec, signal);
  /** How many calls the process has told of. */
  const told = () => lines.filter((line) => line.includes(`called by the sandboxer`)).length;
  await pod.stats();
  assert.equal(told(), 0);
  log.level = "debug";
  await until("a call to be told", async () => {
    await pod.stats();
    return lines.some((line) =>
      line.includes(`DEBUG called by the sandboxer call=sandbox-stats sandbox=${spec.id}`)
    );
  });
  log.level = "info";
  await pod.stats();
  const before = told();
  await pod.stats();
  assert.equal(told(), before);
  // The next sandboxer, which says more.
  log.level = "debug";
  const next = new ProcessPods({
    directory: `${it.directory}/processes`,
    podDirectory: `${it.directory}/pods`,
    taskSocket: `${it.directory}/task.sock`,
    system,
    log,
    logLevel: log,
  });
  const adopted = await next.adopt({ spec, record: pod.record, containers: [] });
  const count = told();
  await until("a call to be told again", async () => {
    await adopted?.handle.stats();
    return told() > count;
  });
  await adopted?.handle.stop(0);
  await pod.stop(0);
});

Deno.test("garbage on its socket ends connections and nothing else", async () => {
  await using it = await world();
  await using rootfs = await guestRootfs();
  const spec = podSpec();
  const pod = await it.pods.start(spec, signal);
  const { process } = await start(pod, containerSpec(rootfs.path, ["/sleep.wasm"]));
  const sockets = new UnixSockets(system.libraryPath, system);
  const control = (version: number) => encodeHello({ version, kind: "control", ticket: 0 });
  const huge = new Uint8Array(40).fill(0xff);
  const openings: Uint8Array[][] = [
    [new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")],
    [control(PROTOCOL_VERSION + 1)],
    [control(PROTOCOL_VERSION).subarray(0, 10)],
    [control(PROTOCOL_VERSION), huge],
    [control(PROTOCOL_VERSION), encodeFrame({ kind: "nothing", id: 1 })],
    [control(PROTOCOL_VERSION), encodeFrame([1, 2, 3]), huge],
    [encodeHello({ version: PROTOCOL_VERSION, kind: "descriptors", ticket: 9 })],
    [],
  ];
  for (const opening of openings) {
    const fd = sockets.connect(`${it.directory}/processes/${spec.id}`, SOCKET_FILE);
    // The other side may be quicker to close than this one to send.
    for (const bytes of opening) {
      try {
        sockets.send(fd, bytes, []);
      } catch { /* as intended */ }
    }
    system.close(fd);
  }
  // A connection that takes the place of the sandboxer's ends that one, and it comes back.
  const hello = async () => (await run(pod, rootfs.path, ["/hello.wasm"])).stdout;
  await until("it answers again", async () => {
    return await hello().catch(() => "") === "hello from wasm\n";
  });
  await process.kill(9);
  assert.equal((await process.exited).status, 137);
  await pod.stop(0);
});

Deno.test("a start that fails or is given up leaves nothing", async () => {
  await using it = await world();
  const failing: readonly (readonly [Partial<ProcessPodsOptions>, Partial<SandboxSpec>, RegExp])[] =
    [
      [{ launcherPath: `${it.directory}/none` }, {}, /none/],
      [{ launcherPath: "/bin/false" }, {}, /ended with status 1/],
      [{}, { network: { kind: "namespace", path: "/run/none" } }, /network namespace/],
      [{}, { network: { kind: "namespace", path: "/etc/passwd" } }, /no network namespace/],
      [{ taskSocket: "/nowhere/at/all.sock" }, {}, /no directory "\/nowhere\/at\/"/],
    ];
  for (const [options, spec, message] of failing) {
    await using other = await world(options);
    const wanted = podSpec(spec);
    await assert.rejects(other.pods.start(wanted, signal), (error) => {
      assert.ok(error instanceof SandboxError);
      assert.match(error.message, message);
      return true;
    });
    assert.deepEqual(await other.left(), [], String(message));
    assert.deepEqual(await processesOf(wanted.id), []);
  }
  for (const afterMs of [0, 5, 20, 60]) {
    const wanted = podSpec();
    const abort = new AbortController();
    const starting = it.pods.start(wanted, abort.signal);
    const result = starting.then(
      (pod) => pod.stop(0).then(() => "started"),
      (error: SandboxError) => error.code,
    );
    setTimeout(() => abort.abort(), afterMs);
    assert.match(await result, /Cancelled|started/);
    assert.deepEqual(await it.left(), []);
    await until("no process to be left", async () => (await processesOf(wanted.id)).length === 0);
  }
});

/** The processes that name a pod. */
async function processesOf(id: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const text = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (text.includes(id)) found.push(text.replaceAll("\0", " "));
  }
  return found;
}

Deno.test("another sandboxer takes over what runs, with the exits that nobody heard", async () => {
  await using it = await world();
  await using rootfs = await guestRootfs();
  const spec = podSpec();
  const specs = ["runs", "ended", "unknown"].map((id) =>
    containerSpec(rootfs.path, [id === "ended" ? "/hello.wasm" : "/sleep.wasm"], { id })
  );
  // Stands in for a sandboxer that ended: a process of its own, so that its connection ends too.
  const first = await new Deno.Command(Deno.execPath(), {
    args: [
      ...["run", "-A", `--config=${new URL("../../../deno.json", import.meta.url).pathname}`],
      new URL("./first_sandboxer_probe.ts", import.meta.url).pathname,
      JSON.stringify({ directory: it.directory, spec, specs }),
    ],
    stderr: "inherit",
  }).output();
  const record = JSON.parse(new TextDecoder().decode(first.stdout));
  const known = specs.slice(0, 2).map((container) => ({ spec: container, record: {} }));
  const adopted = await it.pods.adopt({ spec, record, containers: known });
  assert.ok(adopted !== undefined);
  assert.deepEqual([...adopted.containers.keys()].toSorted(), ["ended", "runs"]);
  const ended = adopted.containers.get("ended")?.processes.get("");
  assert.equal((await ended?.exited)?.status, 0);
  const runs = adopted.containers.get("runs")?.processes.get("");
  assert.ok(runs !== undefined);
  assert.ok((await Deno.stat(`/proc/${adopted.handle.pid}/task/${runs.pid}`)).isDirectory);
  assert.equal((await run(adopted.handle, rootfs.path, ["/hello.wasm"])).exit.status, 0);
  await runs.kill(9);
  assert.equal((await runs.exited).status, 137);
  await adopted.handle.stop(0);
  assert.deepEqual(await it.left(), []);
  assert.equal(await it.pods.adopt({ spec, record, containers: known }), undefined);
  assert.equal(await it.pods.adopt({ spec, record: null, containers: [] }), undefined);
});

Deno.test("a process is found without a record, and never taken for another", async () => {
  await using it = await world();
  const spec = podSpec();
  const pod = await it.pods.start(spec, signal);
  const other = { isolation: "process", pid: Deno.pid, startTime: "1" };
  const file = `${it.directory}/processes/${spec.id}/process`;
  const identity = (await Deno.readTextFile(file)).split(" ");
  assert.equal(identity[0], String(pod.pid));
  const adopted = await it.pods.adopt({ spec, record: null, containers: [] });
  assert.equal(adopted?.handle.pid, pod.pid);
  await adopted?.handle.stop(0);
  // The number may mean another process by now: this one is not killed.
  assert.equal(await it.pods.adopt({ spec, record: other, containers: [] }), undefined);
});

Deno.test("compiled code is asked for by digest, and compiled only for programs of the pod", async () => {
  const asked: string[] = [];
  const requested: string[] = [];
  const compiled: CompiledModules = {
    state: () => "unknown",
    find: (digest) => {
      asked.push(digest);
      return Promise.resolve(undefined);
    },
    request: (digest, bytes) => void requested.push(`${digest} ${bytes.length}`),
    reject: () => undefined,
  };
  await using it = await world({ compiled });
  await using rootfs = await guestRootfs();
  const pod = await it.pods.start(podSpec(), signal);
  const { container, process } = await start(pod, containerSpec(rootfs.path, ["/sleep.wasm"]));
  const bytes = await guestBytes("sleep");
  const digest = await sha256(bytes);
  await until("the module to be requested", () => requested.length > 0);
  assert.ok(asked.length > 0);
  assert.deepEqual(requested, [`${digest} ${bytes.length}`]);
  await process.kill(9);
  await process.exited;
  await container.delete();
  await pod.stop(0);
});

Deno.test("the launcher is no way to start anything else", async () => {
  const launch = (...args: string[]) =>
    new Deno.Command(DEFAULT_LAUNCHER_PATH, { args, stdin: "null" }).output();
  for (const args of [["pod"], ["pod", "--directory=/tmp", "x"], ["pod", "--exec=/bin/sh", "x"]]) {
    const { code, stderr } = await launch(...args);
    assert.equal(code, 2, args.join(" "));
    assert.match(new TextDecoder().decode(stderr), /^quasaur-launcher: .*"pod"/);
  }
});
