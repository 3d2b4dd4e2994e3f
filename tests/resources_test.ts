/**
 * Resources of wasm containers and pods as seen from outside: CRI and `ctr` on one side, the kernel's
 * own figures and cgroups on the other.
 *
 * @module
 */

import assert from "node:assert/strict";
import { Controller } from "../proto/gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { GrpcClient } from "../proto/grpc.ts";
import { WASM_IMAGE, wasmTarget } from "./blackbox/wasm_target.ts";
import { deepRecursion } from "./hostile/modules.ts";
import { rejectsWith } from "./blackbox/rejects.ts";
import { Bed } from "./support/bed.ts";
import { bedTests, withLogs } from "./support/bed_tests.ts";
import { cgroupFiles, cgroupsWith } from "./support/cgroups.ts";
import { type Container, type Cri, type Pod, runtime } from "./support/cri.ts";
import { sandboxerProgram } from "./support/sandboxer.ts";
import { waitFor } from "./support/wait.ts";

const { handler } = wasmTarget;
const RECURSION_IMAGE = "quasaur.test/recursion:1";

const test = bedTests(wasmTarget.bed, async (bed) => {
  await wasmTarget.importImages(bed);
  await bed.containerd.importImage({
    reference: RECURSION_IMAGE,
    files: [{ kind: "file", path: "recursion.wasm", data: deepRecursion(), mode: 0o755 }],
    entrypoint: ["/recursion.wasm"],
  });
});

/** What a test in a pod gets. */
interface InPod {
  readonly bed: Bed;
  readonly cri: Cri;
  readonly pod: Pod;
  /** The containers that it makes. */
  readonly containers: Container[];
}

/**
 * Registers a test for each kind of isolation. It runs in a pod; no cgroup of the pod or of its
 * containers may be left after it.
 */
function testInPod(name: string, body: (context: InPod) => Promise<void>): void {
  for (const isolation of ["thread", "process"]) {
    test(`${isolation}: ${name}`, async ({ bed, cri }) => {
      const containers: Container[] = [];
      let id = "";
      {
        const annotations = { "quasaur.dev/isolation": isolation };
        await using pod = await cri.runPod({ handler, annotations });
        id = pod.id;
        await body({ bed, cri, pod, containers });
      }
      for (const text of [id, ...containers.map((container) => container.id)]) {
        assert.deepEqual(await cgroupsWith(text), []);
      }
    });
  }
}

/** Starts a guest that says one line. */
async function startGuest(
  pod: Pod,
  program: "spin" | "sleep",
  resources: Parameters<Pod["createContainer"]>[0]["resources"] = {},
): Promise<Container> {
  const name = `${program}-${crypto.randomUUID().slice(0, 4)}`;
  const options = { name, image: WASM_IMAGE, command: [`/${program}.wasm`], resources };
  const container = await pod.startContainer(options);
  await container.printed(/^(spinning|sleeping)$/);
  return container;
}

/** The thread of a container, as containerd knows it. */
async function threadOf(bed: Bed, { id }: Container): Promise<number> {
  const lines = (await bed.containerd.ctr("tasks", "ls")).split("\n");
  const [, tid] = lines.find((line) => line.startsWith(id))?.split(/\s+/) ?? [];
  assert.ok(Number(tid) > 0, lines.join("\n"));
  return Number(tid);
}

/** What `ctr` calls the state of a container, such as `RUNNING`. */
async function stateOf(bed: Bed, { id }: Container): Promise<string> {
  const lines = (await bed.containerd.ctr("tasks", "ls")).split("\n");
  return lines.find((line) => line.startsWith(id))?.trim().split(/\s+/)[2] ?? "";
}

/** CPU time that the kernel has counted for a thread, in nanoseconds. */
async function cpuNs(tid: number): Promise<number> {
  return Number((await Deno.readTextFile(`/proc/${tid}/schedstat`)).split(" ")[0]);
}

/** CPU time that a thread takes while some time passes, as a share of that. */
async function cpuShare(tid: number, ms: number): Promise<number> {
  const [before, start] = [await cpuNs(tid), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, ms));
  return (await cpuNs(tid) - before) / 1e6 / (performance.now() - start);
}

/** Expects a guest to be held at 20 % of a CPU, with room for a busy machine. */
async function expectFifth(tid: number): Promise<void> {
  const share = await cpuShare(tid, 1_500);
  assert.ok(share > 0.02 && share < 0.3, `20 % of a CPU, found ${share}`);
}

/** Waits until a guest gets clearly more. */
async function expectMore(tid: number): Promise<void> {
  await waitFor("the guest to compute freely", async () => await cpuShare(tid, 300) > 0.35, {
    timeoutMs: 60_000,
  });
}

/** The CPUs that a thread may run on. */
async function allowedCpus(tid: number): Promise<string> {
  const status = await Deno.readTextFile(`/proc/${tid}/status`);
  return /^Cpus_allowed_list:\s*(.*)$/m.exec(status)?.[1] ?? "";
}

const FIFTH = { cpuQuota: 20_000n, cpuPeriod: 100_000n };

testInPod(
  "a CPU quota holds, and a new one holds while the guest runs",
  async ({ bed, cri, pod, containers }) => {
    const container = await startGuest(pod, "spin", FIFTH);
    containers.push(container);
    const tid = await threadOf(bed, container);
    await expectFifth(tid);
    const update = (linux: { readonly cpuQuota: bigint; readonly cpuPeriod?: bigint }) =>
      cri.client.call(runtime.updateContainerResources, { containerId: container.id, linux });
    await update({ cpuQuota: -1n });
    await expectMore(tid);
    await update(FIFTH);
    await expectFifth(tid);
  },
);

testInPod(
  "a CPU set holds, and CPUs that are not there are refused",
  async ({ bed, cri, pod, containers }) => {
    const container = await startGuest(pod, "spin", { cpusetCpus: "0" });
    containers.push(container);
    const tid = await threadOf(bed, container);
    assert.equal(await allowedCpus(tid), "0");
    const linux = { cpusetCpus: "4000" };
    await assert.rejects(
      cri.client.call(runtime.updateContainerResources, { containerId: container.id, linux }),
      /its CPUs are "4000", but only/,
    );
    assert.equal(await allowedCpus(tid), "0");
    const refused = { name: "x", image: WASM_IMAGE, command: ["/spin.wasm"], resources: linux };
    await assert.rejects(pod.startContainer(refused), /its CPUs are "4000", but only/);
  },
);

testInPod(
  "the limits that kubelet gives a pod hold its guests",
  async ({ bed, pod, containers }) => {
    const container = await startGuest(pod, "spin");
    containers.push(container);
    const tid = await threadOf(bed, container);
    const parent = pod.config.linux?.cgroupParent ?? "";
    for (const path of await cgroupFiles(parent, "cpu.cfs_quota_us")) {
      await Deno.writeTextFile(path, "20000");
      await expectFifth(tid);
    }
  },
);

testInPod(
  "the limits of a memory cannot change while a guest runs, all others can",
  async ({ cri, pod, containers }) => {
    const limit = 64n << 20n;
    const container = await startGuest(pod, "sleep", { memoryLimitInBytes: limit, cpuShares: 2n });
    containers.push(container);
    const update = (linux: { memoryLimitInBytes?: bigint; cpuShares?: bigint }) =>
      cri.client.call(runtime.updateContainerResources, { containerId: container.id, linux });
    await update({ memoryLimitInBytes: limit, cpuShares: 512n });
    await update({ cpuShares: 100n });
    await rejectsWith(
      ["FailedPrecondition", "Unknown"],
      update({ memoryLimitInBytes: limit * 2n }),
      /cannot change the memory limit .* from 67108864 to 134217728 bytes: .* create the container/,
    );
    assert.equal((await container.stats()).memory?.workingSetBytes?.value !== 0n, true);
  },
);

testInPod(
  "ctr pauses and resumes a container: it computes nothing meanwhile",
  async ({ bed, pod, containers }) => {
    const container = await startGuest(pod, "spin");
    containers.push(container);
    const ctr = (...args: string[]) => bed.containerd.ctr("tasks", ...args);
    const tid = await threadOf(bed, container);
    await ctr("pause", container.id);
    assert.equal(await stateOf(bed, container), "PAUSED");
    const frozenAt = await cpuNs(tid);
    assert.equal(await cpuShare(tid, 300), 0);
    await assert.rejects(container.exec(["/hello.wasm"]), /paused/i);
    await ctr("resume", container.id);
    assert.equal(await stateOf(bed, container), "RUNNING");
    await waitFor("it to compute again", async () => await cpuNs(tid) > frozenAt + 50_000_000);
    assert.equal((await container.exec(["/hello.wasm"])).exitCode, 0);
  },
);

testInPod(
  "a paused container is stopped and removed like any other",
  async ({ bed, pod, containers }) => {
    for (const end of ["stop", "remove", "pod"] as const) {
      const container = await startGuest(pod, "sleep");
      containers.push(container);
      await bed.containerd.ctr("tasks", "pause", container.id);
      if (end === "stop") await container.stop(1);
      if (end === "remove") await container.remove();
      if (end === "pod") await pod.stop();
      if (end === "remove") continue;
      const { exitCode } = await container.exited();
      assert.ok([137, 143].includes(exitCode), `exit code ${exitCode}`);
    }
  },
);

testInPod("CRI's statistics agree with the kernel's", async ({ bed, cri, pod, containers }) => {
  const spinning = await startGuest(pod, "spin");
  containers.push(spinning);
  const tid = await threadOf(bed, spinning);
  await waitFor("it to compute", async () => await cpuNs(tid) > 500_000_000);
  const low = await cpuNs(tid);
  const { cpu } = await spinning.stats();
  const shown = Number(cpu?.usageCoreNanoSeconds?.value ?? 0n);
  const high = await cpuNs(tid);
  assert.ok(shown >= low * 0.97 && shown <= high * 1.03, `${low} ${shown} ${high}`);

  const options = { name: "memory", image: WASM_IMAGE, command: ["/memory.wasm"] };
  const taking = await pod.startContainer({ ...options, args: ["64", "60"] });
  containers.push(taking);
  await taking.printed("took 64 MiB");
  const { memory } = await taking.stats();
  const bytes = Number(memory?.workingSetBytes?.value ?? 0n);
  assert.ok(bytes >= 64 << 20 && bytes < (64 << 20) * 1.1, `64 MiB, found ${bytes}`);

  const low2 = await cpuNs(tid);
  const pods = await cri.client.call(runtime.podSandboxStats, { podSandboxId: pod.id });
  const sum = Number(pods.stats?.linux?.cpu?.usageCoreNanoSeconds?.value ?? 0n);
  assert.ok(sum >= low2 * 0.9, `${low2} ${sum}`);
});

test("a sandbox's limits change through the Sandbox API, and its metrics are read there", async ({ bed }) => {
  using client = new GrpcClient(bed.sandboxer("wasm").paths.socketPath);
  const call: GrpcClient["call"] = (method, request) =>
    client.call(method, request, { metadata: { "containerd-namespace": "resources-test" } });
  const { method } = Controller;
  const sandboxId = `resources-${crypto.randomUUID()}`;
  await call(method.create, { sandboxId });
  await call(method.start, { sandboxId });
  const update = (cpuQuota: number) => {
    const resources = { cpu_period: 100_000, cpu_quota: cpuQuota };
    const value = new TextEncoder().encode(JSON.stringify({ Resources: resources }));
    const typeUrl = "io.containerd.cri.v1/UpdatedResources";
    return call(method.update, {
      sandboxId,
      fields: ["extensions"],
      sandbox: { extensions: { "updated-resources": { typeUrl, value } } },
    });
  };
  const quotas = async () => {
    const paths = (await cgroupsWith(sandboxId)).flatMap((path) => [
      `${path}/cpu.cfs_quota_us`,
      `${path}/cpu.max`,
    ]);
    const texts = await Promise.all(paths.map((path) => Deno.readTextFile(path).catch(() => "")));
    return texts.filter((text) => text !== "").map((text) => text.split(" ")[0]?.trim());
  };
  assert.deepEqual(await quotas(), []);
  await update(30_000);
  assert.deepEqual(await quotas(), ["30000"]);
  await update(70_000);
  assert.deepEqual(await quotas(), ["70000"]);
  await assert.rejects(update(10), /the CPU quota in microseconds is 10, expected 1000 to/);
  assert.deepEqual(await quotas(), ["70000"]);
  const { metrics } = await call(method.metrics, { sandboxId });
  assert.equal(metrics?.data?.typeUrl, "io.containerd.cgroups.v2.Metrics");
  await call(method.shutdown, { sandboxId });
  assert.deepEqual(await cgroupsWith(sandboxId), []);
});

test("a container that runs out of memory is OOMKilled", async ({ bed, cri }) => {
  await using pod = await cri.runPod({ handler });
  const options = {
    image: RECURSION_IMAGE,
    resources: { memoryLimitInBytes: 64n << 20n },
  };
  const { exitCode, reason } = await pod.runContainer(options, 60_000);
  assert.deepEqual([exitCode, reason], [137, "OOMKilled"]);
  assert.equal(bed.sandboxer("wasm").process.running, true);
});

test("a sandboxer that is killed while a container is paused comes back", async ({ bed, cri }) => {
  await using pod = await cri.runPod({ handler });
  const container = await startGuest(pod, "spin", { cpuShares: 5n });
  await bed.containerd.ctr("tasks", "pause", container.id);
  assert.notDeepEqual(await cgroupsWith(container.id), []);
  const sandboxer = bed.sandboxer("wasm");
  await sandboxer.process.kill();
  await sandboxer.start();
  await waitFor("the container to be EXITED", async () => await container.state() === "EXITED");
  await waitFor(
    "its cgroups to be gone",
    async () => (await cgroupsWith(container.id)).length === 0,
  );
  const again = { name: "hello", image: WASM_IMAGE, command: ["/hello.wasm"] };
  assert.equal((await pod.runContainer(again)).exitCode, 0);
});

Deno.test("a full node says so through CRI, and takes containers again when it has room", async () => {
  const program = { ...sandboxerProgram("wasm"), main: "tests/support/crowded_main.ts" };
  await using bed = await Bed.start({ kinds: [program] });
  await withLogs(bed, async () => {
    await wasmTarget.importImages(bed);
    using cri = bed.cri();
    await using pod = await cri.runPod({ handler });
    const first = await startGuest(pod, "sleep");
    await startGuest(pod, "sleep");
    const full = /cannot make one more wasm guest: this sandboxer has 2, the most it may have/;
    await assert.rejects(startGuest(pod, "sleep"), full);
    await rejectsWith(["ResourceExhausted", "Unknown"], first.exec(["/hello.wasm"]), full);
    await first.stop(0);
    await first.remove();
    await startGuest(pod, "sleep");
  });
});
