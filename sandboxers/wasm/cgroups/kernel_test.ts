/**
 * Cgroups of this host's kernel, with threads that do nothing: version 1 and version 2, each where
 * it is mounted and can be written to.
 *
 * @module
 */

import assert from "node:assert/strict";
import { noLog } from "../../log.ts";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { System } from "../native/system.ts";
import { type GuestThread, GuestThreads } from "../native/threads.ts";
import { Cgroups } from "./cgroups.ts";
import type { ContainerCgroup } from "./container_cgroup.ts";
import { SystemCgroupFiles } from "./files.ts";
import { directoryOf } from "./groups.ts";
import { type Controller, findHierarchies, type Hierarchy, hierarchyOf } from "./hierarchies.ts";

const system = new System(DEFAULT_LIBRARY_PATH);
const threads = new GuestThreads(DEFAULT_LIBRARY_PATH, system);
const files = new SystemCgroupFiles(system, DEFAULT_LIBRARY_PATH);
const found = findHierarchies(files);

/** A directory of this process's own: other tests may run at the same time. */
const directory = `quasaur-test-${Deno.pid}`;

/** Whether cgroups can be made in a hierarchy. */
function writable({ root, own }: Hierarchy): boolean {
  const path = `${root}${own}/quasaur-probe-${Deno.pid}`;
  return files.makeDirectory(path) === 0 && files.removeDirectory(path) === 0;
}

/** The hierarchies of one version that can be used here. */
function usable(version: 1 | 2): readonly Hierarchy[] {
  return found.filter((hierarchy) => hierarchy.version === version && writable(hierarchy));
}

/** The cgroups of a sandboxer on some hierarchies. */
function cgroupsOn(hierarchies: readonly Hierarchy[]): Cgroups {
  return new Cgroups({ files, log: noLog, hierarchies, directory });
}

/** A thread that waits in a container until it is ended. */
async function startThread(container: ContainerCgroup) {
  using entry = container.enter();
  const thread = threads.start({
    name: "test",
    nice: 0,
    stackBytes: 262_144,
    steps: entry.steps,
    function: threads.symbol("pause"),
    args: [],
  });
  const started = await thread.started;
  assert.ok(started.kind === "running", "the thread runs");
  await entry.entered(started.tid);
  return { thread, tid: started.tid };
}

/** Ends a thread. */
async function end(thread: GuestThread): Promise<void> {
  for (let i = 0; i < 2_000 && thread.interrupt() !== "ended"; i++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await thread.ended;
}

/** The cgroup of a thread in a hierarchy. */
function whereIs(tid: number, { version, controllers }: Hierarchy): string | undefined {
  const lines = Deno.readTextFileSync(`/proc/self/task/${tid}/cgroup`).split("\n");
  const [controller = ""] = controllers;
  const line = lines.find((text) =>
    version === 2 ? text.startsWith("0::") : text.split(":")[1]?.split(",").includes(controller)
  );
  return line?.slice(line.lastIndexOf(":") + 1);
}

/** What is left of this process's tests. */
function left(): string[] {
  return found.map(({ root, own, version }) => `${root}${version === 2 ? own : ""}/${directory}`)
    .filter((path) => files.read(`${path}/cgroup.procs`) !== undefined);
}

/** A file of a pod's or container's cgroup. */
function value(cgroups: Cgroups, controller: Controller, path: string, file: string) {
  const hierarchy = cgroups.hierarchyOf(controller);
  assert.ok(hierarchy !== undefined);
  return files.read(`${directoryOf(cgroups.base(hierarchy))}/${path}/${file}`)?.trim();
}

Deno.test({
  name: "version 1: limits are set in each hierarchy, threads enter, move and leave nothing",
  ignore: !(["cpu", "cpuset", "pids"] as const).every((name) => hierarchyOf(usable(1), name)),
  fn: async () => {
    const cgroups = cgroupsOn(usable(1));
    const pod = cgroups.openPod({ id: "pod", cgroupParent: "", resources: { cpuQuotaUs: 90_000 } });
    const tids: number[] = [];
    const resources = {
      cpuQuotaUs: 20_000,
      cpuPeriodUs: 50_000,
      cpuShares: 512,
      cpusetCpus: "0",
      pids: 2,
    };
    const web = pod.openContainer("web", resources, () => tids);
    const plain = pod.openContainer("plain", {}, () => []);
    assert.equal(value(cgroups, "cpu", "pod", "cpu.cfs_quota_us"), "90000");
    assert.equal(value(cgroups, "cpu", "pod/web", "cpu.cfs_quota_us"), "20000");
    assert.equal(value(cgroups, "cpu", "pod/web", "cpu.cfs_period_us"), "50000");
    assert.equal(value(cgroups, "cpu", "pod/web", "cpu.shares"), "512");
    assert.equal(value(cgroups, "cpuset", "pod/web", "cpuset.cpus"), "0");
    assert.equal(value(cgroups, "pids", "pod/web", "pids.max"), "2");
    const first = await startThread(web);
    tids.push(first.tid);
    const other = await startThread(plain);
    for (const name of ["cpu", "cpuset", "pids"] as const) {
      const hierarchy = cgroups.hierarchyOf(name);
      assert.ok(hierarchy !== undefined);
      assert.equal(whereIs(first.tid, hierarchy), `/${directory}/pod/web`);
      const place = name === "cpu" ? `/${directory}/pod` : "/";
      assert.equal(whereIs(other.tid, hierarchy), place);
    }
    const cpus = /^Cpus_allowed_list:\s*(.*)$/m.exec(
      await Deno.readTextFile(`/proc/self/task/${first.tid}/status`),
    );
    assert.equal(cpus?.[1], "0");
    await web.update({ cpuQuotaUs: 90_000, cpuPeriodUs: 100_000 });
    assert.equal(value(cgroups, "cpu", "pod/web", "cpu.cfs_quota_us"), "90000");
    assert.equal(value(cgroups, "cpu", "pod/web", "cpu.cfs_period_us"), "100000");
    assert.equal(value(cgroups, "pids", "pod/web", "pids.max"), "max");
    // More than the pod may have, which the kernel refuses in version 1.
    await assert.rejects(web.update({ cpuQuotaUs: 95_000 }), /95000.*EINVAL: the cgroup above it/);
    assert.equal(value(cgroups, "cpu", "pod/web", "cpu.cfs_quota_us"), "90000");
    await end(first.thread);
    await end(other.thread);
    for (const container of [web, plain]) await container.remove();
    await pod.remove();
    assert.deepEqual(left(), []);
  },
});

Deno.test({
  name: "version 1: threads enter the cgroups that kubelet made, and those stay",
  ignore: !(["cpu", "cpuacct", "pids"] as const).every((name) => hierarchyOf(usable(1), name)),
  fn: async () => {
    const hierarchies = usable(1).filter(({ controllers }) => !controllers.has("freezer"));
    const parent = `/${directory}-kubelet/pod1`;
    for (const { root } of hierarchies) {
      await Deno.mkdir(`${root}${parent}`, { recursive: true });
    }
    const cgroups = cgroupsOn(usable(1));
    const pod = cgroups.openPod({
      id: "pod",
      cgroupParent: parent,
      resources: { cpuQuotaUs: 70_000 },
    });
    const cpu = cgroups.hierarchyOf("cpu");
    assert.ok(cpu !== undefined);
    // Its maker limits it.
    assert.equal(files.read(`${cpu.root}${parent}/cpu.cfs_quota_us`)?.trim(), "-1");
    const tids: number[] = [];
    const web = pod.openContainer("web", { cpuShares: 99 }, () => tids);
    const { thread, tid } = await startThread(web);
    tids.push(tid);
    assert.equal(whereIs(tid, cpu), `${parent}/web`);
    for (const name of ["cpuacct", "pids"] as const) {
      const hierarchy = cgroups.hierarchyOf(name);
      if (hierarchy === undefined || hierarchy === cpu) continue;
      assert.equal(whereIs(tid, hierarchy), parent);
    }
    await end(thread);
    await web.remove();
    await pod.remove();
    for (const { root } of hierarchies) {
      assert.deepEqual(files.directories(`${root}${parent}`), []);
      await Deno.remove(`${root}${parent}`);
      await Deno.remove(`${root}/${directory}-kubelet`);
    }
    assert.deepEqual(left(), []);
  },
});

for (const version of [1, 2] as const) {
  Deno.test({
    name: `version ${version}: a pause freezes running threads, and one can be let go to end`,
    ignore: hierarchyOf(usable(version), "freezer") === undefined,
    fn: async () => {
      const cgroups = cgroupsOn(usable(version));
      const pod = cgroups.openPod({ id: `freeze-${version}`, cgroupParent: "", resources: {} });
      const tids: number[] = [];
      const web = pod.openContainer("web", {}, () => tids);
      const started = [await startThread(web), await startThread(web)] as const;
      tids.push(...started.map(({ tid }) => tid));
      const hierarchy = cgroups.hierarchyOf("freezer");
      assert.ok(hierarchy !== undefined);
      const place = `${cgroups.base(hierarchy).path}/freeze-${version}`;
      await web.pause();
      for (const { tid } of started) assert.equal(whereIs(tid, hierarchy), `${place}/web`);
      for (const { thread } of started) thread.interrupt();
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.deepEqual(started.map(({ thread }) => thread.running), [true, true]);
      await web.letGo(started[0].tid);
      await started[0].thread.ended;
      assert.equal(started[1].thread.running, true);
      tids.shift();
      web.resume();
      await started[1].thread.ended;
      await web.remove();
      await pod.remove();
      assert.deepEqual(left(), []);
    },
  });
}

Deno.test({
  name: "what is left of a frozen container is thawed and removed",
  ignore: hierarchyOf(usable(1), "freezer") === undefined,
  fn: async () => {
    const cgroups = cgroupsOn(usable(1));
    const pod = cgroups.openPod({ id: "left", cgroupParent: "", resources: { cpuShares: 5 } });
    const tids: number[] = [];
    const web = pod.openContainer("web", {}, () => tids);
    const { thread, tid } = await startThread(web);
    tids.push(tid);
    await web.pause();
    // Again and again: one that comes before the thread has begun to wait does not end it.
    const removed = cgroupsOn(usable(1)).removeLeft({ id: "left", cgroupParent: "" }, ["web"]);
    await Promise.all([removed, end(thread)]);
    assert.deepEqual(left(), []);
  },
});

Deno.test({
  name: "version 1: a process that was killed while frozen is let die",
  ignore: hierarchyOf(usable(1), "freezer") === undefined,
  fn: async () => {
    const cgroups = cgroupsOn(usable(1));
    const hierarchy = cgroups.hierarchyOf("freezer");
    assert.ok(hierarchy !== undefined);
    const path = `${cgroups.base(hierarchy).path}/pod/web`;
    await Deno.mkdir(`${hierarchy.root}${path}`, { recursive: true });
    // Two threads, of which one is frozen: the other one's end leaves the process half dead.
    const script = "new Worker('data:text/javascript,setInterval(()=>0,1e6)',{type:'module'});" +
      "setTimeout(()=>console.log('up'),300);setInterval(()=>0,1e6)";
    const child = new Deno.Command(Deno.execPath(), {
      args: ["eval", script],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    const reader = child.stdout.getReader();
    await reader.read();
    const task = `/proc/${child.pid}/task`;
    const tids = await Array.fromAsync(Deno.readDir(task), ({ name }) => Number(name));
    const last = tids.sort((a, b) => a - b).at(-1);
    await files.writeLater(`${hierarchy.root}${path}/tasks`, `${last}`);
    await Deno.writeTextFile(`${hierarchy.root}${path}/freezer.state`, "FROZEN");
    child.kill("SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal(files.read(`${hierarchy.root}${path}/freezer.state`)?.trim(), "FROZEN");
    await cgroups.thawDying();
    assert.equal((await child.status).signal, "SIGKILL");
    await reader.cancel();
    await cgroups.removeLeft({ id: "pod", cgroupParent: "" }, []);
    assert.deepEqual(left(), []);
  },
});

/** A thread that a failed test left frozen would keep this process from ending. */
Deno.test.afterEach(async () => {
  for (const hierarchy of usable(1)) {
    const base = `${hierarchy.root}/${directory}`;
    for (const pod of files.directories(base)) {
      for (const name of files.directories(`${base}/${pod}`)) {
        await files.writeLater(`${base}/${pod}/${name}/freezer.state`, "THAWED");
      }
    }
  }
});

Deno.test.afterAll(() => threads.close());
