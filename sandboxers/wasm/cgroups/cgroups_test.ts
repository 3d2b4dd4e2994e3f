/**
 * Cgroups of pods and containers on a version 2 hierarchy in memory: what is made when, what is in
 * it, and that it goes.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ErrorCode, SandboxError } from "../../lifecycle/errors.ts";
import type { ResourceSpec } from "../../lifecycle/spec.ts";
import { type Log, noLog } from "../../log.ts";
import { Cgroups } from "./cgroups.ts";
import type { ContainerCgroup } from "./container_cgroup.ts";
import { FakeV2 } from "./fake_v2.ts";
import type { PodCgroup } from "./pod_cgroup.ts";

const POD = "/service/quasaur/pod";

/** The cgroups of a sandboxer on a fake host. */
function setUp(options: { readonly unavailable?: "refuse" | "note"; readonly log?: Log } = {}) {
  const files = new FakeV2();
  const cgroups = new Cgroups({ files, log: noLog, hierarchies: [files.hierarchy], ...options });
  return { files, cgroups };
}

/** A pod without limits, unless there are some. */
function openPod(cgroups: Cgroups, resources: ResourceSpec = {}, cgroupParent = ""): PodCgroup {
  return cgroups.openPod({ id: "pod", cgroupParent, resources });
}

/** A container whose threads are those of a list. */
function openContainer(pod: PodCgroup, resources: ResourceSpec = {}, tids: number[] = []) {
  return pod.openContainer("web", resources, () => tids);
}

/** Starts a thread in a container. */
async function start(files: FakeV2, container: ContainerCgroup, tid: number): Promise<void> {
  using entry = container.enter();
  files.run(entry.steps, tid);
  await entry.entered(tid);
}

/** A value of a cgroup. */
function value(files: FakeV2, path: string, file: string): string | undefined {
  return files.read(`${files.root}${path}/${file}`);
}

/** Matches an error of a code with words. */
function error(code: ErrorCode, words: RegExp) {
  return (thrown: SandboxError) => {
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, words);
    return true;
  };
}

Deno.test("pods and containers without limits have no cgroup and no steps", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups, { memoryBytes: 1 << 20 });
  const container = openContainer(pod);
  using entry = container.enter();
  assert.deepEqual(entry.steps, []);
  assert.deepEqual(files.paths(), []);
  await container.remove();
  await pod.remove();
});

Deno.test("a container's limits are in a threaded cgroup that its threads enter", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  const container = openContainer(pod, { cpuQuotaUs: 20_000, cpuShares: 2, pids: 3 });
  assert.deepEqual(files.paths(), ["/service/quasaur", POD, `${POD}/web`]);
  for (const path of files.paths()) assert.equal(value(files, path, "cgroup.type"), "threaded");
  assert.equal(value(files, `${POD}/web`, "cpu.max"), "20000 100000");
  assert.equal(value(files, `${POD}/web`, "cpu.weight"), "1");
  assert.equal(value(files, `${POD}/web`, "pids.max"), "3");
  assert.equal(value(files, `${POD}/web`, "cpuset.cpus"), undefined);
  await start(files, container, 7);
  assert.equal(files.whereIs(7), `${POD}/web`);
  assert.equal(files.openFiles, 0);
  files.end(7);
  await container.remove();
  await pod.remove();
  assert.deepEqual(files.paths(), []);
});

Deno.test("threads of a container without limits enter the cgroup of a limited pod", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups, { cpuQuotaUs: 50_000 });
  assert.equal(value(files, POD, "cpu.max"), "50000 100000");
  const container = openContainer(pod);
  await start(files, container, 7);
  assert.equal(files.whereIs(7), POD);
  files.end(7);
  await container.remove();
  await pod.remove();
  assert.deepEqual(files.paths(), []);
});

Deno.test("limits change while threads run, which are moved where that is new", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  const tids = [7, 8];
  const container = openContainer(pod, {}, tids);
  await container.update({ cpuQuotaUs: 10_000 });
  assert.deepEqual(tids.map((tid) => files.whereIs(tid)), [`${POD}/web`, `${POD}/web`]);
  await container.update({ cpusetCpus: "1-2", cpuShares: 262_144 });
  assert.equal(value(files, `${POD}/web`, "cpu.max"), "max 100000");
  assert.equal(value(files, `${POD}/web`, "cpu.weight"), "10000");
  assert.equal(value(files, `${POD}/web`, "cpuset.cpus"), "1-2");
  await container.update({});
  assert.equal(value(files, `${POD}/web`, "cpu.weight"), "100");
  assert.equal(value(files, `${POD}/web`, "cpuset.cpus"), "");
});

Deno.test("a pod's new limits take in the threads that run, but for those with a closer cgroup", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  const plain = pod.openContainer("plain", {}, () => [7]);
  const limited = pod.openContainer("limited", { cpuShares: 100 }, () => [8]);
  await start(files, limited, 8);
  await pod.update({ cpuQuotaUs: 30_000 });
  assert.equal(files.whereIs(7), POD);
  assert.equal(files.whereIs(8), `${POD}/limited`);
  assert.equal(value(files, POD, "cpu.max"), "30000 100000");
  for (const tid of [7, 8]) files.end(tid);
  for (const container of [plain, limited]) await container.remove();
  await pod.remove();
  assert.deepEqual(files.paths(), []);
});

Deno.test("a thread that starts while limits change ends up in the new cgroup", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  const container = openContainer(pod);
  using entry = container.enter();
  await pod.update({ cpuQuotaUs: 30_000 });
  files.run(entry.steps, 7);
  assert.equal(files.whereIs(7), undefined);
  await entry.entered(7);
  assert.equal(files.whereIs(7), POD);
});

Deno.test("what is refused leaves the limits as they were", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  const container = openContainer(pod, { cpuQuotaUs: 10_000 });
  const none = error("InvalidArgument", /its CPUs are "0-9", but only "0-3" are there/);
  await assert.rejects(container.update({ cpuQuotaUs: 90_000, cpusetCpus: "0-9" }), none);
  assert.equal(value(files, `${POD}/web`, "cpu.max"), "10000 100000");
  await assert.rejects(container.update({ cpuQuotaUs: 10 }), error("InvalidArgument", /is 10/));
  await assert.rejects(
    pod.update({ cpusetCpus: "7" }),
    error("InvalidArgument", /its CPUs are "7"/),
  );
  assert.throws(
    () => pod.openContainer("x", { cpusetCpus: "4" }, () => []),
    /only "0-3" are there/,
  );
  assert.deepEqual(files.paths(), ["/service/quasaur", POD, `${POD}/web`]);
});

Deno.test("a pause freezes the threads and a resume thaws them; later ones enter frozen", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  const tids = [7];
  const container = openContainer(pod, {}, tids);
  await container.pause();
  assert.equal(container.frozen, true);
  assert.equal(files.whereIs(7), `${POD}/web`);
  assert.match(value(files, `${POD}/web`, "cgroup.events") ?? "", /frozen 1/);
  tids.push(8);
  await start(files, container, 8);
  assert.equal(files.whereIs(8), `${POD}/web`);
  container.resume();
  assert.equal(container.frozen, false);
  assert.match(value(files, `${POD}/web`, "cgroup.events") ?? "", /frozen 0/);
  for (const tid of [7, 8]) files.end(tid);
  await container.remove();
  await pod.remove();
  assert.deepEqual(files.paths(), []);
});

Deno.test("one thread of a frozen container can be let go, the others stay frozen", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  const container = openContainer(pod, {}, [7, 8]);
  await container.letGo(7);
  assert.equal(files.whereIs(7), undefined, "nothing to do where it is not frozen");
  await container.pause();
  await container.letGo(7);
  assert.equal(files.whereIs(7), POD);
  assert.equal(files.whereIs(8), `${POD}/web`);
  assert.equal(container.frozen, true);
});

Deno.test("a thread that is told to end while a pause begins does not stay frozen", async () => {
  const { files, cgroups } = setUp();
  const container = openContainer(openPod(cgroups), {}, [7, 8, 9]);
  await container.letGo(7);
  const paused = container.pause();
  await container.letGo(8);
  await paused;
  assert.notEqual(files.whereIs(7), `${POD}/web`);
  assert.notEqual(files.whereIs(8), `${POD}/web`);
  assert.equal(files.whereIs(9), `${POD}/web`);
});

Deno.test("a pod whose limits the kernel refuses leaves nothing", () => {
  const { files, cgroups } = setUp();
  files.refused = "cpu.weight";
  const resources = { cpuQuotaUs: 5_000, cpuShares: 5 };
  const words = /sandbox "pod": the CPU shares "1" was refused for .*cpu\.weight: EINVAL/;
  assert.throws(() => openPod(cgroups, resources), error("InvalidArgument", words));
  assert.deepEqual(files.paths(), []);
});

Deno.test("what cannot be frozen in time is thawed and told", async () => {
  const { files, cgroups } = setUp();
  const container = openContainer(openPod(cgroups), {}, [7]);
  files.neverFreezes = true;
  await assert.rejects(container.pause(), error("DeadlineExceeded", /not frozen after 3000 ms/));
  assert.equal(container.frozen, false);
  files.neverFreezes = false;
  assert.match(value(files, `${POD}/web`, "cgroup.events") ?? "", /frozen 0/);
});

Deno.test("no more processes start than the container or the pod may have", () => {
  const { cgroups } = setUp();
  const pod = openPod(cgroups, { pids: 3 });
  const a = pod.openContainer("a", { pids: 2 }, () => [7]);
  const b = pod.openContainer("b", {}, () => [8]);
  const full = (words: RegExp) => error("ResourceExhausted", words);
  {
    using _entry = a.enter();
    assert.throws(() => a.enter(), full(/container "a": it has 2, the most/));
    assert.throws(() => b.enter(), full(/sandbox "pod": it has 3, the most/));
  }
  b.enter()[Symbol.dispose]();
});

Deno.test("where cgroups cannot be made, limits are refused, or only noted", async () => {
  const EROFS = 30;
  const refusing = setUp();
  refusing.files.mkdirErrno = EROFS;
  const pod = openPod(refusing.cgroups, { cpuShares: 2 });
  openContainer(pod, { cpuShares: 2 });
  const words = /the limits \(cpu\) of container "web": .*EROFS.*as root/;
  const refused = error("FailedPrecondition", words);
  assert.throws(() => openContainer(pod, { cpuQuotaUs: 1_000 }), refused);
  const paused = error("FailedPrecondition", /cannot pause container "web": .*EROFS/);
  await assert.rejects(openContainer(pod).pause(), paused);

  const notes: unknown[] = [];
  const log = { ...noLog, warn: (text: string) => notes.push(text) };
  const noting = setUp({ unavailable: "note", log });
  noting.files.mkdirErrno = EROFS;
  const container = openContainer(openPod(noting.cgroups), { cpuQuotaUs: 1_000 });
  using entry = container.enter();
  assert.deepEqual(entry.steps, []);
  assert.deepEqual(notes, ["limit not kept"]);
});

Deno.test("without any hierarchy only limits and pauses fail", async () => {
  const { files } = setUp();
  const cgroups = new Cgroups({ files, log: noLog, hierarchies: [] });
  const pod = openPod(cgroups, {}, "/kubepods/pod");
  const container = openContainer(pod, { cpuShares: 2 });
  using entry = container.enter();
  assert.deepEqual(entry.steps, []);
  const words = /no cgroups with the controller "pids"/;
  assert.throws(() => openContainer(pod, { pids: 1 }), error("FailedPrecondition", words));
  await assert.rejects(container.pause(), error("FailedPrecondition", /mount cgroup2/));
});

Deno.test("the limits of the cgroup that kubelet made are copied, and copied again", async () => {
  const { files, cgroups } = setUp();
  const given = "/kubepods/pod1";
  files.given(given, { "cpu.max": "40000 100000", "cpu.weight": "7" });
  const pod = openPod(cgroups, { cpuQuotaUs: 1_000_000 }, given);
  assert.equal(value(files, POD, "cpu.max"), "40000 100000");
  assert.equal(value(files, POD, "cpu.weight"), "7");
  const container = openContainer(pod, {}, [7]);
  await start(files, container, 7);
  assert.equal(files.whereIs(7), POD);
  files.write(`${files.root}${given}/cpu.max`, "80000 100000");
  await container.update({ cpuQuotaUs: 60_000 });
  assert.equal(value(files, POD, "cpu.max"), "80000 100000");
  assert.equal(files.whereIs(7), `${POD}/web`);
});

Deno.test("kubelet's cgroup without limits costs none of ours", () => {
  const { files, cgroups } = setUp();
  files.given("/kubepods/pod1", {});
  using entry = openContainer(openPod(cgroups, {}, "/kubepods/pod1")).enter();
  assert.deepEqual(entry.steps, []);
  assert.deepEqual(files.paths(), []);
});

Deno.test("ids that are names of the kernel's files get other names", () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  for (const id of ["cpu.max", "tasks", "a-b_c"]) {
    pod.openContainer(id, { cpuShares: 2 }, () => []);
  }
  assert.deepEqual(files.directories(`${files.root}${POD}`), ["id.cpu.max", "id.tasks", "a-b_c"]);
});

Deno.test("what a process that was killed left of a pod is removed, and nothing else", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups, { cpuQuotaUs: 10_000 });
  const container = openContainer(pod, { cpuShares: 2 }, [7]);
  await container.pause();
  files.end(7);
  const other = cgroups.openPod({ id: "other", cgroupParent: "", resources: { cpuShares: 9 } });

  const next = new Cgroups({ files, log: noLog, hierarchies: [files.hierarchy] });
  await next.removeLeft({ id: "pod", cgroupParent: "" }, ["web"]);
  assert.deepEqual(files.paths(), ["/service/quasaur", "/service/quasaur/other"]);
  await other.remove();
  assert.deepEqual(files.paths(), []);
  await next.removeLeft({ id: "pod", cgroupParent: "" }, ["web"]);
});

Deno.test("a cgroup in which threads stay is an error, and can be removed later", async () => {
  const { files, cgroups } = setUp();
  const pod = openPod(cgroups);
  const container = openContainer(pod, { cpuShares: 2 });
  await start(files, container, 7);
  await assert.rejects(container.remove(), /cannot remove the cgroup .*EBUSY/);
  files.end(7);
  await container.remove();
  await pod.remove();
  assert.deepEqual(files.paths(), []);
});
