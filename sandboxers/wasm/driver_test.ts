/**
 * The wasm driver from the lifecycle's side, with real guests, FIFOs and network namespaces.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ProcessHandle, SandboxHandle } from "../lifecycle/driver.ts";
import type { ErrorCode } from "../lifecycle/errors.ts";
import type { ContainerSpec, SandboxSpec } from "../lifecycle/spec.ts";
import { refused } from "../lifecycle/testing/refused.ts";
import { WasmDriver } from "./driver.ts";
import {
  collect,
  collectedPipe,
  containerSpec,
  engine,
  guestRootfs,
  makeFifo,
  openFifoReader,
  sandboxSpec,
  signal,
  stdioSpec,
  system,
  until,
  usage,
} from "./fixture.ts";

const driver = new WasmDriver({ engine, system });

/** A started pod that is stopped at the end of its scope. */
async function startPod(
  more: Partial<SandboxSpec> = {},
): Promise<AsyncDisposable & { readonly pod: SandboxHandle }> {
  const pod = await driver.start(sandboxSpec(more), signal);
  return { pod, [Symbol.asyncDispose]: () => pod.stop(0) };
}

/** Runs a container to its end with its outputs collected. */
async function run(pod: SandboxHandle, spec: ContainerSpec) {
  const out = collectedPipe();
  const err = collectedPipe();
  const stdio = stdioSpec({
    ...spec.stdio,
    stdout: { kind: "fd", fd: out.writeFd },
    stderr: { kind: "fd", fd: err.writeFd },
  });
  try {
    const container = await pod.createContainer({ ...spec, stdio }, signal);
    const process = await container.start(signal);
    const exit = await process.exited;
    await container.delete();
    return { exit, stdout: out, stderr: err };
  } finally {
    out.close();
    err.close();
  }
}

/** Runs a container and gives its exit and texts. */
async function runToEnd(pod: SandboxHandle, spec: ContainerSpec) {
  const { exit, stdout, stderr } = await run(pod, spec);
  return { exit, stdout: await stdout.text, stderr: await stderr.text };
}

/** Whether the guest's thread sleeps in a system call. */
function sleeps(process: ProcessHandle): boolean {
  const stat = Deno.readTextFileSync(`/proc/self/task/${process.pid}/stat`);
  return stat.split(") ")[1]?.[0] === "S";
}

Deno.test("a container runs from create to exit with FIFOs as containerd makes them", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const { pod } = started;
  assert.equal(pod.pid, 0);
  const dir = await Deno.makeTempDir({ prefix: "quasaur-fifo-" });
  for (const name of ["in", "out", "err"]) await makeFifo(`${dir}/${name}`);
  const stdout = collect(openFifoReader(`${dir}/out`));
  const stderr = collect(openFifoReader(`${dir}/err`));
  const container = await pod.createContainer(
    containerSpec(rootfs.path, ["/cat.wasm"], {
      stdio: {
        stdin: { kind: "path", path: `${dir}/in` },
        stdout: { kind: "path", path: `${dir}/out` },
        stderr: { kind: "path", path: `${dir}/err` },
        terminal: false,
      },
    }),
    signal,
  );
  assert.deepEqual(await container.pids(), []);
  const process = await container.start(signal);
  assert.ok(process.pid > 1 && process.pid !== Deno.pid);
  assert.deepEqual(await container.pids(), [process.pid]);
  // A client that goes is not the end of the input; closeStdin after it is.
  for (const text of ["first ", "second"]) {
    await Deno.writeTextFile(`${dir}/in`, text, { append: true });
  }
  await until("cat waits for more", () => sleeps(process));
  assert.deepEqual(await container.pids(), [process.pid]);
  await process.closeStdin();
  const exit = await process.exited;
  assert.equal(exit.status, 0);
  assert.equal(exit.reason, "exited");
  assert.equal(await stdout, "first second");
  assert.equal(await stderr, "");
  const stats = await container.stats();
  assert.ok(stats.cpuNs > 0);
  assert.equal(stats.pids, 0);
  await container.delete();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("100 containers at once on FIFOs: nothing is lost or crossed", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const dir = await Deno.makeTempDir({ prefix: "quasaur-fifo-" });
  const ids = Array.from({ length: 100 }, (_, i) => `c${i}`);
  await Promise.all(
    ids.flatMap((id) => [makeFifo(`${dir}/${id}.out`), makeFifo(`${dir}/${id}.err`)]),
  );
  const results = await Promise.all(ids.map(async (id) => {
    const stdout = collect(openFifoReader(`${dir}/${id}.out`));
    const stderr = collect(openFifoReader(`${dir}/${id}.err`));
    const spec = containerSpec(rootfs.path, ["/lines.wasm", "300"]);
    const container = await started.pod.createContainer({
      ...spec,
      id,
      process: { ...spec.process, env: [`ID=${id}`] },
      stdio: stdioSpec({
        stdout: { kind: "path", path: `${dir}/${id}.out` },
        stderr: { kind: "path", path: `${dir}/${id}.err` },
      }),
    }, signal);
    const process = await container.start(signal);
    const exit = await process.exited;
    const texts = { id, status: exit.status, stdout: await stdout, stderr: await stderr };
    await container.delete();
    return texts;
  }));
  const numbers = Array.from({ length: 300 }, (_, n) => n);
  for (const { id, status, stdout, stderr } of results) {
    assert.equal(status, 0);
    assert.equal(stdout, numbers.map((n) => `${id} out ${n} ${"x".repeat(29)}\n`).join(""));
    const errors = numbers.filter((n) => n % 10 === 0);
    assert.equal(stderr, errors.map((n) => `${id} err ${n}\n`).join(""));
  }
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a FIFO without a reader neither blocks nor fails the start", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const dir = await Deno.makeTempDir({ prefix: "quasaur-fifo-" });
  await makeFifo(`${dir}/out`);
  const stdout = { kind: "path", path: `${dir}/out` } as const;
  const hello = containerSpec(rootfs.path, ["/hello.wasm"], { stdio: stdioSpec({ stdout }) });
  const container = await started.pod.createContainer(hello, signal);
  assert.equal((await (await container.start(signal)).exited).status, 0);
  await container.delete();
  // One that writes more than fits waits for a reader, and can be killed.
  const lines = containerSpec(rootfs.path, ["/lines.wasm", "1000000"], {
    stdio: stdioSpec({ stdout }),
  });
  const blocked = await started.pod.createContainer(lines, signal);
  const process = await blocked.start(signal);
  await until("the FIFO is full", () => sleeps(process));
  await process.kill(9);
  assert.equal((await process.exited).status, 137);
  await blocked.delete();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("readers see the end of output as soon as the guest has ended", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const dir = await Deno.makeTempDir({ prefix: "quasaur-fifo-" });
  await makeFifo(`${dir}/out`);
  const text = collect(openFifoReader(`${dir}/out`));
  const container = await started.pod.createContainer(
    containerSpec(rootfs.path, ["/hello.wasm"], {
      stdio: stdioSpec({ stdout: { kind: "path", path: `${dir}/out` } }),
    }),
    signal,
  );
  await (await container.start(signal)).exited;
  // Before delete: nobody may have to delete a container to read its output to the end.
  assert.equal(await text, "hello from wasm\n");
  await container.delete();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a missing FIFO is named with its stream, and nothing stays open", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const before = usage();
  for (const name of ["stdin", "stdout", "stderr"] as const) {
    await refused(
      started.pod.createContainer(
        containerSpec(rootfs.path, ["/hello.wasm"], {
          stdio: stdioSpec({ [name]: { kind: "path", path: "/nowhere/fifo" } }),
        }),
        signal,
      ),
      "NotFound",
      new RegExp(`cannot open ${name} "/nowhere/fifo": ENOENT`),
    );
  }
  assert.equal(usage().fds, before.fds);
});

Deno.test("every failing create leaves no descriptor, thread or guest behind", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  await Deno.writeTextFile(`${rootfs.path}/script`, "#!/bin/sh\n");
  const spec = containerSpec(rootfs.path, ["/hello.wasm"]);
  const file = { source: `${rootfs.path}/script`, destination: "/data/file", readonly: true };
  const cases: [Partial<ContainerSpec>, ErrorCode, RegExp][] = [
    [
      { rootfs: { kind: "directory", path: "/nowhere" } },
      "NotFound",
      /root file system "\/nowhere"/,
    ],
    [
      { process: { ...spec.process, args: ["/gone.wasm"] } },
      "NotFound",
      /no file at "\/gone.wasm"/,
    ],
    [{ process: { ...spec.process, args: ["/script"] } }, "InvalidArgument", /file "\/script"/],
    [{ process: { ...spec.process, args: [] } }, "InvalidArgument", /no entrypoint/],
    [{ stdio: { ...stdioSpec(), terminal: true } }, "InvalidArgument", /WASI has none/],
    [{ stdio: stdioSpec({ stdout: { kind: "path", path: "/" } }) }, "InvalidArgument", /EISDIR/],
    [{ stdio: stdioSpec({ stdin: { kind: "fd", fd: 99_999 } }) }, "InvalidArgument", /not open/],
    [{ mounts: [file] }, "FailedPrecondition", /its directory is not changed for a mount/],
    [{ mounts: [{ ...file, source: "/nowhere" }] }, "NotFound", /mount source "\/nowhere"/],
    [{ mounts: [{ ...file, destination: "a" }] }, "InvalidArgument", /absolute path/],
    [{ resources: { memoryBytes: 70_000 } }, "InvalidArgument", /the limit is 70000/],
  ];
  const before = usage();
  for (const [more, code, words] of cases) {
    await refused(started.pod.createContainer({ ...spec, ...more }, signal), code, words);
  }
  const gone = AbortSignal.abort();
  await refused(started.pod.createContainer(spec, gone), "Cancelled", /cancelled/);
  assert.equal(usage().fds, before.fds);
  assert.equal(engine.stats().guests, 0);
});

Deno.test("exit codes are cut to a byte, as of a process", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  for (const [code, status] of [[0, 0], [7, 7], [255, 255], [256, 0], [-1, 255]]) {
    const spec = containerSpec(rootfs.path, ["/args.wasm"]);
    const process = { ...spec.process, env: [`EXIT_CODE=${code}`] };
    const { exit } = await runToEnd(started.pod, { ...spec, process });
    assert.equal(exit.status, status);
    assert.equal(exit.reason, "exited");
  }
});

Deno.test("a trap is status 134, with its reason in the exit and on stderr", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const { exit, stdout, stderr } = await runToEnd(
    started.pod,
    containerSpec(rootfs.path, ["/trap.wasm", "memory"]),
  );
  assert.equal(exit.status, 134);
  assert.equal(exit.reason, "trap");
  assert.equal(exit.message, "wasm trap: out of bounds memory access");
  assert.equal(stdout, "before\n");
  assert.equal(stderr, "wasm trap: out of bounds memory access\n");
});

Deno.test("a trap with a stderr that nobody reads still ends the process", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const [readFd, writeFd] = system.pipe();
  const filler = new Uint8Array(4_096);
  while (system.tryWrite(writeFd, filler));
  const spec = containerSpec(rootfs.path, ["/trap.wasm"], {
    stdio: stdioSpec({ stderr: { kind: "fd", fd: writeFd } }),
  });
  const container = await started.pod.createContainer(spec, signal);
  const process = await container.start(signal);
  assert.equal((await process.exited).status, 134);
  await container.delete();
  assert.ok(system.isOpen(writeFd), "the caller's descriptor stays open");
  system.close(readFd);
  system.close(writeFd);
});

Deno.test("signals end a guest with 128 + n, and ignored ones do nothing", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const [quiet, writer] = system.pipe();
  for (const program of ["/spin.wasm", "/sleep.wasm", "/cat.wasm"]) {
    for (const number of [9, 15, 2]) {
      const container = await started.pod.createContainer(
        containerSpec(rootfs.path, [program], {
          stdio: stdioSpec({ stdin: { kind: "fd", fd: quiet } }),
        }),
        signal,
      );
      const process = await container.start(signal);
      for (const ignored of [0, 17, 18, 23, 28]) await process.kill(ignored);
      assert.deepEqual(await container.pids(), [process.pid]);
      await process.kill(number);
      const exit = await process.exited;
      assert.equal(exit.status, 128 + number);
      assert.equal(exit.reason, "signaled");
      await process.kill(9);
      await container.delete();
    }
  }
  system.close(quiet);
  system.close(writer);
});

Deno.test("signals that are none, or would stop the guest, are refused", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const spec = containerSpec(rootfs.path, ["/sleep.wasm"]);
  const container = await started.pod.createContainer(spec, signal);
  const process = await container.start(signal);
  await refused(process.kill(65), "InvalidArgument", /signal 65: expected 0 to 64/);
  await refused(process.kill(-1), "InvalidArgument", /signal -1/);
  await refused(process.kill(19), "Unimplemented", /cannot be stopped/);
  assert.deepEqual(await container.pids(), [process.pid]);
  await container.delete();
  assert.equal((await process.exited).status, 137);
});

Deno.test("the guest sees its root file system and mounts, read-only where asked", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const dir = await Deno.makeTempDir({ prefix: "quasaur-data-" });
  // A colon ends a path in the engine's own notation.
  const data = `${dir}/with:colon`;
  await Deno.mkdir(data);
  await Deno.writeTextFile(`${data}/seen`, "from a mount");
  await Deno.mkdir(`${rootfs.path}/etc`);
  await Deno.writeTextFile(`${rootfs.path}/etc/own`, "from the image");
  await Deno.symlink("/etc/passwd", `${rootfs.path}/out`);
  const file = `${dir}/file`;
  await Deno.writeTextFile(file, "a single file");
  await Deno.writeTextFile(`${rootfs.path}/etc/hosts`, "the image's");
  const { stdout } = await runToEnd(
    started.pod,
    containerSpec(
      rootfs.path,
      // deno-fmt-ignore
      [
        "/fs.wasm", "p:", "r:/etc/own", "r:etc/own", "r:/data/seen", "w:/data/new", "w:/ro/new",
        "r:/ro/seen", "w:/etc/new", "r:/etc/hosts", "r:/out", "r:/../../../etc/passwd", "l:/data",
      ],
      {
        mounts: [
          { source: data, destination: "/data", readonly: true },
          { source: data, destination: "/data/", readonly: false },
          { source: data, destination: "/ro", readonly: true },
          { source: file, destination: "/etc/hosts", readonly: true },
        ],
      },
    ),
  );
  const lines = stdout.trim().split("\n");
  // The engine takes the first slash off names, and has its own order: WASI's C library minds
  // neither.
  assert.deepEqual(lines.splice(0, 3).sort(), ["preopen /", "preopen data", "preopen ro"]);
  assert.deepEqual(lines, [
    "read /etc/own: from the image",
    "read etc/own: from the image",
    "read /data/seen: from a mount",
    "write /data/new: ok",
    "write /ro/new: Capabilities insufficient",
    "read /ro/seen: from a mount",
    "write /etc/new: ok",
    "read /etc/hosts: a single file",
    "read /out: Operation not permitted",
    "read /../../../etc/passwd: Operation not permitted",
    "list /data: new seen",
  ]);
  assert.equal(await Deno.readTextFile(`${data}/new`), "written");
  assert.equal(await Deno.readTextFile(`${rootfs.path}/etc/new`), "written");
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a read-only root file system cannot be changed", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const changes = ["w:/new", "m:/dir", "u:/hello.wasm", "n:/hello.wasm:/other", "s:a:/link"];
  const { stdout } = await runToEnd(started.pod, {
    ...containerSpec(rootfs.path, ["/fs.wasm", ...changes]),
    readonlyRootfs: true,
  });
  const lines = stdout.trim().split("\n");
  assert.equal(lines.length, changes.length);
  for (const line of lines) {
    assert.match(line, /: (Capabilities insufficient|Read-only file system)/);
  }
});

Deno.test("a guest acts as its user, and the process stays root", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  await Deno.chmod(rootfs.path, 0o755);
  for (
    const [name, uid, gid, mode] of [["own", 1_000, 1_001, 0o700], ["group", 0, 77, 0o770]] as const
  ) {
    await Deno.mkdir(`${rootfs.path}/${name}`);
    await Deno.chown(`${rootfs.path}/${name}`, uid, gid);
    await Deno.chmod(`${rootfs.path}/${name}`, mode);
  }
  await Deno.writeTextFile(`${rootfs.path}/secret`, "root's", { mode: 0o600 });
  const spec = containerSpec(rootfs.path, [
    "/fs.wasm",
    "w:/own/f",
    "w:/group/f",
    "w:/f",
    "r:/secret",
  ]);
  const user = { uid: 1_000, gid: 1_001, additionalGids: [5, 77] };
  const { stdout } = await runToEnd(started.pod, { ...spec, process: { ...spec.process, user } });
  assert.equal(
    stdout,
    "write /own/f: ok\nwrite /group/f: ok\nwrite /f: Permission denied\n" +
      "read /secret: Permission denied\n",
  );
  const made = await Deno.stat(`${rootfs.path}/group/f`);
  assert.deepEqual([made.uid, made.gid], [1_000, 1_001]);
  assert.equal(Deno.uid(), 0);
  assert.equal(await Deno.readTextFile(`${rootfs.path}/secret`), "root's");
});

Deno.test("PWD is the working directory, and paths are relative to the root", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  await Deno.mkdir(`${rootfs.path}/work`);
  await Deno.writeTextFile(`${rootfs.path}/file`, "root's");
  await Deno.writeTextFile(`${rootfs.path}/work/file`, "work's");
  const spec = containerSpec(rootfs.path, ["/cwd.wasm", "file", "/file", "/work/file"]);
  const process = { ...spec.process, cwd: "/work" };
  const { stdout } = await runToEnd(started.pod, { ...spec, process });
  assert.equal(stdout, "cwd /\nPWD /work\nfile: root's\n/file: root's\n/work/file: work's\n");
});

Deno.test("stats follow a running container, and its pod sums them up", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const spec = containerSpec(rootfs.path, ["/spin.wasm"], { resources: { memoryBytes: 1 << 24 } });
  const first = await started.pod.createContainer(spec, signal);
  const second = await started.pod.createContainer({ ...spec, id: "second" }, signal);
  const process = await first.start(signal);
  const schedstat = () => Deno.readTextFileSync(`/proc/self/task/${process.pid}/schedstat`);
  await until("time is used", () => Number(schedstat().split(" ")[0]) > 20_000_000);
  const stats = await first.stats();
  assert.ok(stats.cpuNs > 5_000_000, `${stats.cpuNs}`);
  assert.ok(stats.memoryBytes > 65_536);
  assert.equal(stats.memoryLimitBytes, 1 << 24);
  assert.equal(stats.pids, 1);
  const pod = await started.pod.stats();
  assert.equal(pod.pids, 1);
  assert.ok(pod.cpuNs >= stats.cpuNs);
  assert.ok(pod.memoryBytes > stats.memoryBytes);
  await process.kill(9);
  await process.exited;
  assert.ok((await first.stats()).cpuNs >= stats.cpuNs);
  assert.equal((await first.stats()).memoryBytes, 0);
  await second.delete();
});

Deno.test("stop ends all guests, settles exited, and can be repeated", async () => {
  await using rootfs = await guestRootfs();
  const before = usage();
  const pod = await driver.start(sandboxSpec(), signal);
  const exits = [];
  for (const program of ["/spin.wasm", "/sleep.wasm"]) {
    const spec = containerSpec(rootfs.path, [program], { id: program.slice(1) });
    const container = await pod.createContainer(spec, signal);
    exits.push((await container.start(signal)).exited);
  }
  await pod.createContainer(containerSpec(rootfs.path, ["/hello.wasm"]), signal);
  await pod.stop(1_000);
  assert.deepEqual((await Promise.all(exits)).map((exit) => exit.status), [143, 143]);
  assert.equal((await pod.exited).status, 0);
  await pod.stop(0);
  await refused(
    pod.createContainer(containerSpec(rootfs.path, ["/hello.wasm"]), signal),
    "FailedPrecondition",
    /sandbox "pod" is stopped/,
  );
  assert.equal(usage().fds, before.fds);
  assert.equal(engine.stats().guests, 0);
});

Deno.test("output is kept for a reader that comes after the guest has ended", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const dir = await Deno.makeTempDir({ prefix: "quasaur-fifo-" });
  await makeFifo(`${dir}/out`);
  const stdout = { kind: "path", path: `${dir}/out` } as const;
  const hello = containerSpec(rootfs.path, ["/hello.wasm"], { stdio: stdioSpec({ stdout }) });
  const container = await started.pod.createContainer(hello, signal);
  const process = await container.start(signal);
  await until("the guest has ended", async () => (await container.pids()).length === 0);
  assert.equal(await Deno.readTextFile(`${dir}/out`), "hello from wasm\n");
  assert.equal((await process.exited).status, 0);
  await container.delete();
  await Deno.remove(dir, { recursive: true });
});

Deno.test("200 containers leave no descriptor and no thread behind", async () => {
  await using rootfs = await guestRootfs();
  const dir = await Deno.makeTempDir({ prefix: "quasaur-fifo-" });
  for (const name of ["in", "out", "err"]) await makeFifo(`${dir}/${name}`);
  // Somebody has the outputs open and reads what is written, so that nobody waits for a reader.
  using out = await Deno.open(`${dir}/out`, { read: true, write: true });
  using _err = await Deno.open(`${dir}/err`, { read: true, write: true });
  const stdio = {
    stdin: { kind: "path", path: `${dir}/in` },
    stdout: { kind: "path", path: `${dir}/out` },
    stderr: { kind: "path", path: `${dir}/err` },
    terminal: false,
  } as const;
  const readLine = async (line: string) => {
    const bytes = new Uint8Array(4_096);
    let text = "";
    while (!text.endsWith(`${line}\n`)) {
      text += new TextDecoder().decode(bytes.subarray(0, await out.read(bytes) ?? 0));
    }
  };
  const cycle = async (program: string, kill: boolean) => {
    const pod = await driver.start(sandboxSpec(), signal);
    const spec = containerSpec(rootfs.path, [program], { stdio });
    const container = await pod.createContainer(spec, signal);
    const process = await container.start(signal);
    if (kill) await process.kill(9);
    else await readLine("hello from wasm");
    await process.exited;
    await container.delete();
    await pod.stop(0);
  };
  await cycle("/hello.wasm", false);
  const before = usage();
  for (let i = 0; i < 200; i++) {
    const kind = i % 4;
    await cycle(kind < 2 ? "/hello.wasm" : kind === 2 ? "/cat.wasm" : "/spin.wasm", kind >= 2);
  }
  await until("threads are gone", () => usage().threads <= before.threads);
  assert.equal(usage().fds, before.fds);
  assert.equal(engine.stats().guests, 0);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("a pod is taken over without its containers where its network lives", async () => {
  await using rootfs = await guestRootfs();
  const record = {};
  const containers = [{ spec: containerSpec(rootfs.path, ["/hello.wasm"]), record }];
  const adopted = await driver.adopt({ spec: sandboxSpec(), record, containers });
  assert.ok(adopted !== undefined);
  assert.equal(adopted.containers.size, 0);
  const spec = containerSpec(rootfs.path, ["/hello.wasm"]);
  const { exit } = await runToEnd(adopted.handle, spec);
  assert.equal(exit.status, 0);
  await adopted.handle.stop(0);
  const network = { kind: "namespace", path: "/run/netns/gone" } as const;
  const gone = await driver.adopt({ spec: sandboxSpec({ network }), record, containers });
  assert.equal(gone, undefined);
});

Deno.test("a network namespace that is missing, or none, is refused with its path", async () => {
  const start = (path: string) =>
    driver.start(sandboxSpec({ network: { kind: "namespace", path } }), signal);
  const before = usage();
  await refused(start("/run/netns/gone"), "InvalidArgument", /"\/run\/netns\/gone": ENOENT/);
  await refused(start("/etc/hosts"), "InvalidArgument", /it is no network namespace/);
  await refused(start("/proc/self/ns/mnt"), "InvalidArgument", /it is no network namespace/);
  assert.equal(usage().fds, before.fds);
});

Deno.test("a guest's server is in its pod's network and nowhere else", async () => {
  await using rootfs = await guestRootfs();
  await using first = await makeNetns("quasaur-test-a");
  await using second = await makeNetns("quasaur-test-b");
  const servers = [];
  for (const { name } of [first, second]) {
    const network = { kind: "namespace", path: `/run/netns/${name}` } as const;
    const pod = await driver.start(sandboxSpec({ id: name, network }), signal);
    const out = collectedPipe();
    const spec = containerSpec(rootfs.path, ["/server.wasm", "18080"], {
      stdio: stdioSpec({ stdout: { kind: "fd", fd: out.writeFd } }),
    });
    const process = { ...spec.process, env: [`ID=${name}`] };
    const container = await pod.createContainer({ ...spec, process }, signal);
    const running = await container.start(signal);
    await until("it listens", () => sleeps(running));
    servers.push({ name, pod, running, out });
  }
  const own = await Deno.readLink("/proc/self/ns/net");
  for (const { name, running } of servers) {
    assert.equal(await getInside(name), `hello from ${name}\n`);
    assert.notEqual(await Deno.readLink(`/proc/self/task/${running.pid}/ns/net`), own);
  }
  await assert.rejects(Deno.connect({ hostname: "127.0.0.1", port: 18_080 }), /refused/i);
  for (const { pod, running, out } of servers) {
    await pod.stop(0);
    assert.equal((await running.exited).status, 137);
    out.close();
    assert.equal(await out.text, "listening on 18080\n");
  }
});

/** A network namespace with its loopback up; removed when disposed of. */
async function makeNetns(name: string): Promise<AsyncDisposable & { readonly name: string }> {
  const ip = async (...args: string[]) => {
    const { success, stderr } = await new Deno.Command("ip", { args }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
  };
  await new Deno.Command("ip", { args: ["netns", "del", name] }).output();
  await ip("netns", "add", name);
  await ip("-n", name, "link", "set", "lo", "up");
  return { name, [Symbol.asyncDispose]: () => ip("netns", "del", name) };
}

/** What a server inside a network namespace answers. */
async function getInside(netns: string): Promise<string> {
  const client =
    "exec 3<>/dev/tcp/127.0.0.1/18080; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
  const { stdout } = await new Deno.Command("ip", {
    args: ["netns", "exec", netns, "bash", "-c", client],
  }).output();
  return new TextDecoder().decode(stdout).split("\r\n\r\n")[1] ?? "";
}

Deno.test("a program is found by path, in the working directory and by PATH", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  await Deno.mkdir(`${rootfs.path}/opt/bin`, { recursive: true });
  await Deno.copyFile(`${rootfs.path}/hello.wasm`, `${rootfs.path}/opt/bin/app`);
  // Links stay inside: this one leads to /opt/bin/app of the image, not of the host.
  await Deno.symlink("/opt/bin/app", `${rootfs.path}/link`);
  await Deno.symlink("../../../../../../opt/bin/app", `${rootfs.path}/opt/up`);
  const cases: [program: string, cwd: string, env: string[]][] = [
    ["/opt/bin/app", "/", []],
    ["/link", "/", []],
    ["/opt/up", "/", []],
    ["bin/app", "/opt", []],
    ["./bin/app", "/opt/", []],
    ["../opt/bin/app", "/opt", []],
    ["app", "/", ["PATH=/nowhere:/opt/bin"]],
    ["app", "/opt/bin", []],
    ["app", "/", ["PATH=opt/bin"]],
  ];
  for (const [program, cwd, env] of cases) {
    const spec = containerSpec(rootfs.path, [program]);
    const process = { ...spec.process, cwd, env };
    const { stdout } = await runToEnd(started.pod, { ...spec, process });
    assert.equal(stdout, "hello from wasm\n", program);
  }
});

Deno.test("a program that a link would take out of the image is not found", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const outside = await Deno.makeTempFile({ prefix: "quasaur-outside-" });
  await Deno.copyFile(`${rootfs.path}/hello.wasm`, outside);
  await Deno.symlink(outside, `${rootfs.path}/absolute`);
  await Deno.symlink(`../../..${outside}`, `${rootfs.path}/relative`);
  await Deno.mkdir(`${rootfs.path}/directory`);
  for (const program of ["/absolute", "/relative", `/..${outside}`, "/directory"]) {
    await refused(
      started.pod.createContainer(containerSpec(rootfs.path, [program]), signal),
      "NotFound",
      /cannot find the program/,
    );
  }
  await Deno.remove(outside);
});

Deno.test("descriptors of the caller are used as they are, but not non-blocking ones", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const [readFd, writeFd] = system.pipe();
  system.setNonblocking(writeFd, true);
  const spec = containerSpec(rootfs.path, ["/hello.wasm"], {
    stdio: stdioSpec({ stdout: { kind: "fd", fd: writeFd } }),
  });
  await refused(
    started.pod.createContainer(spec, signal),
    "InvalidArgument",
    /for stdout: it is non-blocking/,
  );
  assert.ok(system.isOpen(writeFd));
  system.close(readFd);
  system.close(writeFd);
});

Deno.test("a plain file can be a stream", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  await Deno.writeTextFile(`${rootfs.path}/in`, "from a file");
  await Deno.writeTextFile(`${rootfs.path}/log`, "before ");
  const container = await started.pod.createContainer(
    containerSpec(rootfs.path, ["/cat.wasm"], {
      stdio: stdioSpec({
        stdin: { kind: "path", path: `${rootfs.path}/in` },
        stdout: { kind: "path", path: `${rootfs.path}/log` },
      }),
    }),
    signal,
  );
  assert.equal((await (await container.start(signal)).exited).status, 0);
  await container.delete();
  assert.equal(await Deno.readTextFile(`${rootfs.path}/log`), "before from a file");
});

Deno.test("programs that this process starts do not inherit a guest's descriptors", async () => {
  await using rootfs = await guestRootfs();
  await using started = await startPod();
  const inherited = async () => {
    const { stdout } = await new Deno.Command("ls", { args: ["/proc/self/fd"] }).output();
    return new TextDecoder().decode(stdout);
  };
  const before = await inherited();
  const spec = containerSpec(rootfs.path, ["/sleep.wasm"]);
  const container = await started.pod.createContainer(spec, signal);
  await container.start(signal);
  assert.equal(await inherited(), before);
  await container.delete();
});
