/**
 * Guests beside the init process of a container.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ContainerHandle, ProcessHandle, SandboxHandle } from "../lifecycle/driver.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ExecSpec } from "../lifecycle/spec.ts";
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

/** A pod with a container whose init process waits for input, without any descriptor of its own. */
interface Bed extends AsyncDisposable {
  readonly rootfs: string;
  readonly pod: SandboxHandle;
  readonly container: ContainerHandle;
  readonly init: ProcessHandle;
}

async function bed(): Promise<Bed> {
  const rootfs = await guestRootfs();
  const pod = await driver.start(sandboxSpec(), signal);
  const [quiet, writer] = system.pipe();
  const stdio = stdioSpec({ stdin: { kind: "fd", fd: quiet } });
  const spec = containerSpec(rootfs.path, ["/cat.wasm"], { stdio });
  const container = await pod.createContainer(spec, signal);
  const init = await container.start(signal);
  return {
    rootfs: rootfs.path,
    pod,
    container,
    init,
    [Symbol.asyncDispose]: async () => {
      await pod.stop(0);
      for (const fd of [quiet, writer]) system.close(fd);
      await rootfs[Symbol.asyncDispose]();
    },
  };
}

function execSpec(args: readonly string[], more: Partial<ExecSpec> = {}): ExecSpec {
  const user = { uid: 0, gid: 0, additionalGids: [] };
  return { id: "e", process: { args, env: [], cwd: "/", user }, stdio: stdioSpec(), ...more };
}

async function start({ container }: Bed, spec: ExecSpec): Promise<ProcessHandle> {
  const process = await container.exec?.(spec, signal);
  assert.ok(process !== undefined);
  return process;
}

/** Runs an exec to its end. */
async function run(made: Bed, spec: ExecSpec) {
  const out = collectedPipe();
  const err = collectedPipe();
  const fd = (writeFd: number) => ({ kind: "fd", fd: writeFd }) as const;
  const stdio = stdioSpec({ ...spec.stdio, stdout: fd(out.writeFd), stderr: fd(err.writeFd) });
  try {
    const { status } = await (await start(made, { ...spec, stdio })).exited;
    out.close();
    err.close();
    return { status, stdout: await out.text, stderr: await err.text };
  } catch (error) {
    out.close();
    err.close();
    throw error;
  }
}

Deno.test("an exec has arguments, environment, output and exit code of its own", async () => {
  await using made = await bed();
  const spec = execSpec(["/args.wasm", "a", "b c"]);
  const process = { ...spec.process, env: ["EXIT_CODE=7", "K=v"], cwd: "/some/where" };
  const { status, stdout } = await run(made, { ...spec, process });
  assert.equal(status, 7);
  assert.deepEqual(stdout.trim().split("\n"), [
    "arg /args.wasm",
    "arg a",
    "arg b c",
    "env EXIT_CODE=7",
    "env K=v",
    "env PWD=/some/where",
  ]);
  assert.deepEqual(await made.container.pids(), [made.init.pid]);
});

Deno.test("an exec sees the same files as the init process", async () => {
  await using made = await bed();
  await Deno.writeTextFile(`${made.rootfs}/note`, "seen");
  const { stdout } = await run(made, execSpec(["/fs.wasm", "r:/note", "w:/new"]));
  assert.equal(stdout, "read /note: seen\nwrite /new: ok\n");
  assert.equal(await Deno.readTextFile(`${made.rootfs}/new`), "written");
});

Deno.test("an exec reads its own standard input until that is closed", async () => {
  await using made = await bed();
  const dir = await Deno.makeTempDir({ prefix: "quasaur-fifo-" });
  for (const name of ["in", "out"]) await makeFifo(`${dir}/${name}`);
  const stdout = collect(openFifoReader(`${dir}/out`));
  const process = await start(
    made,
    execSpec(["/cat.wasm"], {
      stdio: stdioSpec({
        stdin: { kind: "path", path: `${dir}/in` },
        stdout: { kind: "path", path: `${dir}/out` },
      }),
    }),
  );
  await Deno.writeTextFile(`${dir}/in`, "from outside", { append: true });
  await process.closeStdin();
  assert.equal((await process.exited).status, 0);
  assert.equal(await stdout, "from outside");
  await Deno.remove(dir, { recursive: true });
});

Deno.test("50 execs at once end each by itself, and leave nothing but their CPU time", async () => {
  await using made = await bed();
  await run(made, execSpec(["/hello.wasm"]));
  const before = usage();
  const { cpuNs } = await made.container.stats();
  const results = await Promise.all(Array.from({ length: 50 }, async (_, i) => {
    const spec = execSpec(["/lines.wasm", "50"], { id: `e${i}` });
    const process = { ...spec.process, env: [`ID=e${i}`, `EXIT_CODE=0`] };
    return { i, ...await run(made, { ...spec, process }) };
  }));
  for (const { i, status, stdout } of results) {
    assert.equal(status, 0);
    const lines = stdout.trim().split("\n");
    assert.equal(lines.length, 50);
    assert.ok(lines.every((line) => line.startsWith(`e${i} out `)));
  }
  await until("threads are gone", () => usage().threads <= before.threads);
  assert.equal(usage().fds, before.fds);
  assert.equal(engine.stats().guests, 1);
  const stats = await made.container.stats();
  assert.ok(stats.cpuNs >= cpuNs + 50 * 10_000, `${stats.cpuNs} after ${cpuNs}`);
  assert.equal(stats.pids, 1);
});

Deno.test("threads and memory of execs count while they run", async () => {
  await using made = await bed();
  const alone = await made.container.stats();
  const exec = await start(made, execSpec(["/sleep.wasm"]));
  assert.deepEqual(await made.container.pids(), [made.init.pid, exec.pid]);
  const both = await made.container.stats();
  assert.equal(both.pids, 2);
  assert.ok(both.memoryBytes > alone.memoryBytes);
  assert.equal((await made.pod.stats()).pids, 2);
  await exec.kill(9);
  await exec.exited;
  assert.deepEqual(await made.container.pids(), [made.init.pid]);
});

Deno.test("signals end the exec that they are sent to, and no other guest", async () => {
  await using made = await bed();
  const other = await start(made, execSpec(["/sleep.wasm"], { id: "other" }));
  for (const program of ["/spin.wasm", "/sleep.wasm"]) {
    for (const number of [15, 9]) {
      const exec = await start(made, execSpec([program]));
      await exec.kill(0);
      await exec.kill(number);
      const exit = await exec.exited;
      assert.deepEqual([exit.status, exit.reason], [128 + number, "signaled"]);
    }
  }
  assert.deepEqual(await made.container.pids(), [made.init.pid, other.pid]);
});

Deno.test("an exec cannot end the process, or another guest, with any signal", async () => {
  await using made = await bed();
  for (let number = 1; number <= 30; number++) {
    const { status } = await run(made, execSpec(["/raise.wasm", String(number)]));
    assert.ok(status < 128, `signal ${number}: status ${status}`);
  }
  assert.deepEqual(await made.container.pids(), [made.init.pid]);
});

Deno.test("an exec that cannot start says why and leaves nothing", async () => {
  await using made = await bed();
  const before = usage();
  const cases: [ExecSpec, string, RegExp][] = [
    [execSpec(["/gone.wasm"]), "NotFound", /cannot find the program "\/gone.wasm"/],
    [execSpec([]), "InvalidArgument", /cannot create exec "e" of container "container"/],
    [
      execSpec(["/hello.wasm"], { stdio: { ...stdioSpec(), terminal: true } }),
      "InvalidArgument",
      /WASI has none/,
    ],
    [
      execSpec(["/hello.wasm"], {
        stdio: stdioSpec({ stdout: { kind: "path", path: "/nowhere/fifo" } }),
      }),
      "NotFound",
      /cannot open stdout "\/nowhere\/fifo"/,
    ],
  ];
  for (const [spec, code, words] of cases) {
    await assert.rejects(start(made, spec), (error: unknown) => {
      assert.ok(error instanceof SandboxError, String(error));
      assert.equal(error.code, code, error.message);
      assert.match(error.message, words);
      return true;
    });
  }
  const gone = made.container.exec?.(execSpec(["/hello.wasm"]), AbortSignal.abort());
  await assert.rejects(gone ?? Promise.resolve(), /cancelled/);
  assert.equal(usage().fds, before.fds);
  assert.equal(engine.stats().guests, 1);
});

Deno.test("deleting a container, or stopping its pod, ends its execs", async () => {
  for (const end of ["delete", "stop"] as const) {
    await using made = await bed();
    const execs = [
      await start(made, execSpec(["/spin.wasm"], { id: "spin" })),
      await start(made, execSpec(["/sleep.wasm"], { id: "sleep" })),
    ];
    await (end === "delete" ? made.container.delete() : made.pod.stop(0));
    for (const { exited } of execs) assert.equal((await exited).status, 137);
    assert.equal(engine.stats().guests, 0);
  }
});
