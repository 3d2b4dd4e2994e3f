/**
 * Limits, pauses and statistics of running guests, on the cgroups of this host.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ContainerHandle, ProcessHandle, SandboxHandle } from "../lifecycle/driver.ts";
import type { ResourceSpec, SandboxSpec } from "../lifecycle/spec.ts";
import { refused } from "../lifecycle/testing/refused.ts";
import { noLog } from "../log.ts";
import { Cgroups } from "./cgroups/cgroups.ts";
import { SystemCgroupFiles } from "./cgroups/files.ts";
import { directoryOf } from "./cgroups/groups.ts";
import type { Controller } from "./cgroups/hierarchies.ts";
import { WasmDriver } from "./driver.ts";
import {
  containerSpec,
  engine,
  guestRootfs,
  sandboxSpec,
  signal,
  stdioSpec,
  system,
  until,
} from "./fixture.ts";
import { DEFAULT_LIBRARY_PATH } from "./native/library.ts";

const directory = `quasaur-resources-${Deno.pid}`;
const files = new SystemCgroupFiles(system, DEFAULT_LIBRARY_PATH);
const cgroups = new Cgroups({ files, log: noLog, directory });
const driver = new WasmDriver({ engine, system, cgroups });

/** Whether the cgroups of a controller can be changed here. */
function can(controller: Controller): boolean {
  const hierarchy = cgroups.hierarchyOf(controller);
  if (hierarchy === undefined) return false;
  const path = `${hierarchy.root}${hierarchy.own}/quasaur-probe-${Deno.pid}`;
  return files.makeDirectory(path) === 0 && files.removeDirectory(path) === 0;
}

/** A pod with its own directory of guests, gone at the end of its scope with all its cgroups. */
async function startPod(more: Partial<SandboxSpec> = {}) {
  const rootfs = await guestRootfs();
  const pod = await driver.start(sandboxSpec(more), signal);
  return {
    pod,
    rootfs: rootfs.path,
    async [Symbol.asyncDispose]() {
      await pod.stop(0);
      await rootfs[Symbol.asyncDispose]();
      assert.deepEqual(left(), []);
    },
  };
}

/** Our directories that are still there. */
function left(): string[] {
  return cgroups.hierarchies.map((hierarchy) => directoryOf(cgroups.base(hierarchy)))
    .filter((path) => files.read(`${path}/cgroup.procs`) !== undefined);
}

/** A container that runs one guest. */
async function startGuest(
  { pod, rootfs }: { readonly pod: SandboxHandle; readonly rootfs: string },
  args: readonly string[],
  resources: ResourceSpec = {},
): Promise<{ readonly container: ContainerHandle; readonly process: ProcessHandle }> {
  const container = await pod.createContainer(containerSpec(rootfs, args, { resources }), signal);
  return { container, process: await container.start(signal) };
}

/** CPU time that the kernel has counted for a thread, in nanoseconds. */
async function threadCpuNs(tid: number): Promise<number> {
  return Number((await Deno.readTextFile(`/proc/self/task/${tid}/schedstat`)).split(" ")[0]);
}

/** CPU time that a thread takes while some time passes, as a share of that. */
async function cpuShare(tid: number, ms: number): Promise<number> {
  const [cpuBefore, before] = [await threadCpuNs(tid), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, ms));
  return (await threadCpuNs(tid) - cpuBefore) / 1e6 / (performance.now() - before);
}

/** Registers a test that needs the cgroups of some controllers. */
function test(name: string, controllers: readonly Controller[], fn: () => Promise<void>): void {
  Deno.test({ name, ignore: !controllers.every(can), fn });
}

test("a quota holds a computing guest back, and an update gives it more", ["cpu"], async () => {
  await using started = await startPod();
  const limits = { cpuQuotaUs: 10_000, cpuPeriodUs: 100_000 };
  const { container, process } = await startGuest(started, ["/spin.wasm"], limits);
  const held = await cpuShare(process.pid, 1_000);
  assert.ok(held > 0.01 && held < 0.2, `10 % of a CPU, found ${held}`);
  await container.update?.({});
  const cpuNs = await threadCpuNs(process.pid);
  await until(
    "it computes more than it might have",
    async () => await cpuShare(process.pid, 300) > 0.25,
  );
  assert.ok(await threadCpuNs(process.pid) > cpuNs);
});

test("a pod's quota holds its containers, also one that comes while it runs", ["cpu"], async () => {
  await using started = await startPod();
  const { process } = await startGuest(started, ["/spin.wasm"]);
  await started.pod.update?.({ cpuQuotaUs: 10_000 });
  const held = await cpuShare(process.pid, 1_000);
  assert.ok(held > 0.01 && held < 0.2, `10 % of a CPU, found ${held}`);
  await refused(
    started.pod.update?.({ cpuQuotaUs: 5 }) ?? Promise.resolve(),
    "InvalidArgument",
    /is 5/,
  );
});

test("a guest runs on the CPUs that it may run on", ["cpuset"], async () => {
  await using started = await startPod();
  const { container, process } = await startGuest(started, ["/spin.wasm"], { cpusetCpus: "0" });
  const allowed = async () =>
    /^Cpus_allowed_list:\s*(.*)$/m.exec(
      await Deno.readTextFile(`/proc/self/task/${process.pid}/status`),
    )?.[1];
  const all = /^Cpus_allowed_list:\s*(.*)$/m.exec(await Deno.readTextFile("/proc/self/status"))
    ?.[1];
  assert.equal(await allowed(), "0");
  await container.update?.({});
  assert.equal(await allowed(), all);
  const missing = container.update?.({ cpusetCpus: "4095" });
  await refused(missing ?? Promise.resolve(), "InvalidArgument", /its CPUs are "4095", but only/);
});

test(
  "a paused guest computes nothing, goes on after it, and no other is touched",
  ["freezer"],
  async () => {
    await using started = await startPod();
    const { container, process } = await startGuest(started, ["/spin.wasm"]);
    const rootfs = started.rootfs;
    const other = await started.pod.createContainer(
      { ...containerSpec(rootfs, ["/spin.wasm"]), id: "other" },
      signal,
    );
    const neighbour = await other.start(signal);
    await container.pause?.();
    const [cpuNs, neighbourNs] = [process.pid, neighbour.pid].map(threadCpuNs);
    const before = await Promise.all([cpuNs, neighbourNs]);
    await until(
      "the neighbour computes",
      async () => await threadCpuNs(neighbour.pid) > (before[1] ?? 0) + 50_000_000,
    );
    assert.equal(await threadCpuNs(process.pid), before[0]);
    assert.deepEqual(await container.pids(), [process.pid]);
    assert.equal((await container.stats()).cpuNs, before[0]);
    await container.resume?.();
    await until(
      "it goes on",
      async () => await threadCpuNs(process.pid) > (before[0] ?? 0) + 50_000_000,
    );
  },
);

for (const program of ["/spin.wasm", "/sleep.wasm"]) {
  test(
    `a paused guest (${program}) is killed, and one beside it stays frozen`,
    ["freezer"],
    async () => {
      await using started = await startPod();
      const { container, process } = await startGuest(started, [program]);
      const exec = await container.exec?.({
        id: "beside",
        process: containerSpec("", ["/spin.wasm"]).process,
        stdio: stdioSpec(),
      }, signal);
      assert.ok(exec !== undefined);
      await container.pause?.();
      const cpuNs = await threadCpuNs(exec.pid);
      await process.kill(9);
      const exit = await process.exited;
      assert.deepEqual([exit.status, exit.reason], [137, "signaled"]);
      assert.equal(await threadCpuNs(exec.pid), cpuNs);
      await exec.kill(15);
      assert.equal((await exec.exited).status, 143);
      await container.delete();
    },
  );
}

test("a guest that sleeps is not woken by a pause", ["freezer"], async () => {
  await using started = await startPod();
  const begin = performance.now();
  const { container, process } = await startGuest(started, ["/sleep.wasm", "2"]);
  for (let i = 0; i < 3; i++) {
    await container.pause?.();
    await container.resume?.();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.deepEqual(await container.pids(), [process.pid]);
  assert.equal((await process.exited).status, 0);
  assert.ok(performance.now() - begin >= 1_990, "it slept for its two seconds");
});

test("a paused container is deleted, and a pod with one is stopped", ["freezer"], async () => {
  await using started = await startPod();
  for (const end of ["delete", "stop"]) {
    const { container, process } = await startGuest(started, ["/spin.wasm"]);
    await container.pause?.();
    if (end === "delete") await container.delete();
    else await started.pod.stop(1_000);
    assert.equal((await process.exited).reason, "signaled");
  }
});

Deno.test("a container keeps its memory limit; an update may repeat it, not change it", async () => {
  await using started = await startPod();
  const limit = 32 << 20;
  const { container } = await startGuest(started, ["/sleep.wasm"], { memoryBytes: limit });
  await container.update?.({});
  await container.update?.({ memoryBytes: limit });
  await container.update?.({ memoryBytes: limit + 4_096 });
  for (const memoryBytes of [limit * 2, limit / 2]) {
    const words = /from 33554432 to \d+ bytes: .* create the container again/;
    await refused(
      container.update?.({ memoryBytes }) ?? Promise.resolve(),
      "FailedPrecondition",
      words,
    );
  }
  const free = await started.pod.createContainer(
    { ...containerSpec(started.rootfs, ["/sleep.wasm"]), id: "free" },
    signal,
  );
  await free.update?.({ memoryBytes: 8 * 2 ** 30 });
  await refused(
    free.update?.({ memoryBytes: limit }) ?? Promise.resolve(),
    "FailedPrecondition",
    /from none to/,
  );
});

test("execs count as processes", ["pids"], async () => {
  await using started = await startPod();
  const { container } = await startGuest(started, ["/sleep.wasm"], { pids: 2 });
  const exec = (id: string) =>
    container.exec?.({
      id,
      process: containerSpec("", ["/sleep.wasm"]).process,
      stdio: stdioSpec(),
    }, signal) ?? Promise.reject(new Error("no exec"));
  const first = await exec("first");
  await refused(exec("second"), "ResourceExhausted", /it has 2, the most it may have/);
  assert.equal((await container.stats()).pids, 2);
  await first.kill(9);
  await first.exited;
  await (await exec("third")).kill(9);
});

test("limits that make no sense leave nothing of a pod or a container", ["cpu"], async () => {
  const wrong = driver.start(sandboxSpec({ resources: { cpuQuotaUs: 10 } }), signal);
  await refused(wrong, "InvalidArgument", /sandbox "pod": the CPU quota in microseconds is 10/);
  assert.deepEqual(left(), []);
  await using started = await startPod();
  const guests = engine.stats().guests;
  await refused(
    startGuest(started, ["/sleep.wasm"], { cpuShares: 2, cpuQuotaUs: 1 }),
    "InvalidArgument",
    /container "container": the CPU quota in microseconds is 1/,
  );
  assert.equal(engine.stats().guests, guests);
});

test("a pod that an earlier process left is taken over without its cgroups", ["cpu"], async () => {
  const spec = sandboxSpec({ id: "left", resources: { cpuQuotaUs: 50_000 } });
  const before = cgroups.openPod(spec);
  before.openContainer("web", { cpuShares: 7 }, () => []);
  const container = containerSpec("/", ["/x"], { id: "web", sandboxId: "left" });
  const adopted = await driver.adopt({
    spec,
    record: {},
    containers: [{ spec: container, record: {} }],
  });
  assert.ok(adopted !== undefined);
  const hierarchy = cgroups.hierarchyOf("cpu");
  assert.ok(hierarchy !== undefined);
  const pod = `${directoryOf(cgroups.base(hierarchy))}/left`;
  assert.deepEqual(files.directories(pod), []);
  await adopted.handle.stop(0);
  assert.deepEqual(left(), []);
});

Deno.test("statistics agree with the kernel's", async () => {
  await using started = await startPod();
  const { container, process } = await startGuest(started, ["/spin.wasm"]);
  await until("it has computed", async () => await threadCpuNs(process.pid) > 300_000_000);
  const low = await threadCpuNs(process.pid);
  const { cpuNs } = await container.stats();
  const sum = await started.pod.stats();
  const high = await threadCpuNs(process.pid);
  // The kernel's own figure is brought up to date at each tick of its clock.
  assert.ok(cpuNs >= low * 0.97 && cpuNs <= high * 1.03, `${low} ${cpuNs} ${high}`);
  assert.ok(sum.cpuNs >= cpuNs && sum.pids === 1);

  const taken = await started.pod.createContainer(
    { ...containerSpec(started.rootfs, ["/memory.wasm", "64", "60"]), id: "memory" },
    signal,
  );
  const before = (await taken.stats()).memoryBytes;
  await taken.start(signal);
  await until("it has 64 MiB", async () => (await taken.stats()).memoryBytes - before >= 64 << 20);
  const { memoryBytes, memoryPages = 0 } = await taken.stats();
  assert.ok(memoryBytes < (64 << 20) * 1.1 + before, `${memoryBytes}`);
  assert.ok(memoryPages * 65_536 <= memoryBytes && memoryPages >= 1_024, `${memoryPages} pages`);
});
