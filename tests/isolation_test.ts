/**
 * Pods with a process of their own, end to end: what kind of process that is, what its end brings,
 * and that it, its guests and containerd's calls to them outlive the sandboxer.
 *
 * @module
 */

import assert from "node:assert/strict";
import { PodSandboxState } from "../proto/gen/runtime/v1/api_pb.ts";
import { WASM_IMAGE, wasmProcessTarget, wasmTarget } from "./blackbox/wasm_target.ts";
import { Bed } from "./support/bed.ts";
import { withLogs } from "./support/bed_tests.ts";
import type { Container, Cri, Pod, PodOptions } from "./support/cri.ts";
import { httpGet } from "./support/http.ts";
import { leaks, type Snapshot, snapshot } from "./support/leaks.ts";
import { podProcesses, processStatus, runtimeProcess } from "./support/pod_processes.ts";
import type { SandboxerProcess } from "./support/sandboxer.ts";
import { waitFor } from "./support/wait.ts";

const PROCESS = wasmProcessTarget.handler;
const THREAD = wasmTarget.handler;
const ANNOTATION = "quasaur.dev/isolation";

/** Registers a test with a bed of its own, and looks afterwards whether something was left. */
function test(name: string, body: (context: IsolationContext) => Promise<void>): void {
  Deno.test(name, async () => {
    await using bed = await Bed.start(wasmTarget.bed);
    await withLogs(bed, async () => {
      await wasmTarget.importImages(bed);
      using cri = bed.cri();
      const context = new IsolationContext(bed, cri);
      for (const handler of [THREAD, PROCESS]) {
        await using pod = await context.runPod(handler, { network: "pod" });
        await expectHello(pod);
      }
      const before = await context.look();
      await body(context);
      await context.expectNothingLeft(before);
    });
  });
}

/** A bed, and the pods that were run in it: other test files run theirs at the same time. */
class IsolationContext {
  readonly #ids: string[] = [];

  constructor(readonly bed: Bed, readonly cri: Cri) {}

  get sandboxer(): SandboxerProcess {
    return this.bed.sandboxer("wasm");
  }

  async runPod(handler: string, options: Omit<PodOptions, "handler"> = {}): Promise<Pod> {
    const pod = await this.cri.runPod({ handler, ...options });
    this.#ids.push(pod.id);
    return pod;
  }

  async look(): Promise<Snapshot> {
    const { state, directory } = this.bed.containerd;
    return await snapshot({
      mountsBelow: [directory],
      filesBelow: [
        `${state}/io.containerd.runtime.v2.task`,
        `${state}/io.containerd.grpc.v1.cri`,
        this.sandboxer.paths.runDirectory,
      ],
    });
  }

  async expectNothingLeft(before: Snapshot): Promise<void> {
    await waitFor("everything to be gone", async () => {
      const found = leaks(before, await this.look());
      const { runtimes, relays } = await podProcesses();
      for (const id of this.#ids) {
        if (runtimes.has(id)) found.push(`process ${runtimes.get(id)} of pod ${id}`);
        if (relays.has(id)) found.push(`relay ${relays.get(id)} of pod ${id}`);
        found.push(...await cgroupsNamed(`quasaur-${id}`));
      }
      if (found.length > 0) throw new Error(found.join("\n"));
      return true;
    });
  }
}

/** Cgroups of a name, wherever they are. */
async function cgroupsNamed(name: string, directory = "/sys/fs/cgroup"): Promise<string[]> {
  const found: string[] = [];
  const entries = await Array.fromAsync(Deno.readDir(directory)).catch(() => []);
  for (const entry of entries.filter(({ isDirectory }) => isDirectory)) {
    const path = `${directory}/${entry.name}`;
    if (entry.name === name) found.push(`cgroup ${path}`);
    else found.push(...await cgroupsNamed(name, path));
  }
  return found;
}

async function startGuest(
  pod: Pod,
  name: string,
  options: { args?: string[]; env?: Record<string, string>; firstLine?: string } = {},
): Promise<Container> {
  const { args = [], env = {}, firstLine } = options;
  const container = await pod.startContainer({
    name: `${name}-${crypto.randomUUID().slice(0, 4)}`,
    image: WASM_IMAGE,
    command: [`/${name}.wasm`],
    args,
    env,
  });
  if (firstLine !== undefined) await container.printed(firstLine);
  return container;
}

async function expectHello(pod: Pod): Promise<void> {
  const name = `hello-${crypto.randomUUID().slice(0, 4)}`;
  const finished = await pod.runContainer({ name, image: WASM_IMAGE, command: ["/hello.wasm"] });
  assert.deepEqual([finished.exitCode, finished.stdout], [0, ["hello from wasm"]]);
}

async function expectReady(pod: Pod): Promise<void> {
  await waitFor(`pod "${pod.id}" to be READY`, async () => {
    return (await pod.status()).state === PodSandboxState.SANDBOX_READY;
  });
}

async function pidOf(pod: Pod): Promise<number> {
  const pid = await runtimeProcess(pod.id);
  assert.ok(pid !== undefined, `pod ${pod.id} has no process`);
  return pid;
}

/** Whether a process is there. */
async function exists(pid: number): Promise<boolean> {
  return await Deno.stat(`/proc/${pid}`).then(() => true, () => false);
}

test("each pod has one process, which is shut off from the machine", async (context) => {
  await using pod = await context.runPod(PROCESS, { network: "pod" });
  await using other = await context.runPod(PROCESS);
  await using threads = await context.runPod(THREAD);
  const pid = await pidOf(pod);
  assert.notEqual(pid, await pidOf(other));
  assert.equal(await runtimeProcess(threads.id), undefined, "a pod on threads has none");
  await startGuest(pod, "sleep", { firstLine: "sleeping" });
  await startGuest(pod, "spin", { firstLine: "spinning" });
  assert.equal(await pidOf(pod), pid, "containers of one pod share its process");
  assert.ok((await pod.info())["info"]?.includes(String(pid)), "CRI shows the process");

  const status = await processStatus(pid);
  assert.equal(status.get("NoNewPrivs"), "1");
  assert.equal(status.get("Seccomp"), "2");
  // DAC_OVERRIDE, SETGID, SETUID, SETPCAP, SYS_CHROOT, SYS_NICE: linux/capability.h.
  assert.equal(status.get("CapEff"), "00000000008401c2");
  assert.equal(status.get("CapBnd"), "00000000008401c2");
  for (const path of ["/etc/passwd", "/root/.bashrc", "/proc/sys", "/run", "/home", "/var/lib"]) {
    await assert.rejects(Deno.stat(`/proc/${pid}/root${path}`), Deno.errors.NotFound, path);
  }
  const environment = await Deno.readTextFile(`/proc/${pid}/environ`);
  assert.deepEqual(
    environment.split("\0").map((entry) => entry.split("=")[0]),
    ["DENO_DIR", "DENO_NO_UPDATE_CHECK", "NO_COLOR", ""],
  );
  const namespace = (of: number, kind: string) => Deno.readLink(`/proc/${of}/ns/${kind}`);
  for (const kind of ["net", "mnt", "ipc"]) {
    assert.notEqual(await namespace(pid, kind), await namespace(Deno.pid, kind), kind);
  }
  assert.match(await Deno.readTextFile(`/proc/${pid}/cgroup`), /memory:.*quasaur-/);
});

test("a pod on the host's network has it, one with an address has its own", async (context) => {
  await using hostPod = await context.runPod(PROCESS);
  await using netPod = await context.runPod(PROCESS, { network: "pod" });
  const namespace = async (pid: number) => await Deno.readLink(`/proc/${pid}/ns/net`);
  assert.equal(await namespace(await pidOf(hostPod)), await namespace(Deno.pid));
  await startGuest(netPod, "server", {
    args: ["8080"],
    env: { ID: "the guest" },
    firstLine: "listening on 8080",
  });
  assert.equal(await httpGet(await netPod.ip(), 8080), "hello from the guest\n");
  await assert.rejects(httpGet("127.0.0.1", 8080));
});

test("a process that is killed ends its own pod and no other", async (context) => {
  await using doomed = await context.runPod(PROCESS, { network: "pod" });
  await using neighbour = await context.runPod(PROCESS);
  await using threads = await context.runPod(THREAD);
  const ended = await doomed.runContainer({
    name: "ended",
    image: WASM_IMAGE,
    command: ["/args.wasm"],
    env: { EXIT_CODE: "5" },
  });
  const lost = await startGuest(doomed, "sleep", { firstLine: "sleeping" });
  const others = [
    await startGuest(neighbour, "sleep", { firstLine: "sleeping" }),
    await startGuest(threads, "spin", { firstLine: "spinning" }),
  ];
  Deno.kill(await pidOf(doomed), "SIGKILL");
  assert.equal((await lost.exited()).exitCode, 137);
  assert.equal((await ended.container.status()).exitCode, 5);
  await waitFor("the pod to be NOTREADY", async () => {
    return (await doomed.status()).state === PodSandboxState.SANDBOX_NOTREADY;
  });
  await assert.rejects(startGuest(doomed, "hello"));
  for (const other of others) assert.equal(await other.state(), "RUNNING");
  await expectHello(neighbour);
  await expectHello(threads);
});

/** What must hold of pods with processes when another sandboxer takes the place of the first. */
async function expectOutlived(
  context: IsolationContext,
  replace: (whileAway: () => Promise<void>) => Promise<void>,
): Promise<void> {
  await using pod = await context.runPod(PROCESS);
  await using netPod = await context.runPod(PROCESS, { network: "pod" });
  const pid = await pidOf(pod);
  const ended = await pod.runContainer({
    name: "ended",
    image: WASM_IMAGE,
    command: ["/args.wasm"],
    env: { EXIT_CODE: "5" },
  });
  const sleeping = await startGuest(pod, "sleep", { firstLine: "sleeping" });
  const brief = await startGuest(pod, "sleep", { args: ["2"], firstLine: "sleeping" });
  const created = await pod.createContainer({ image: WASM_IMAGE, command: ["/hello.wasm"] });
  await startGuest(netPod, "server", {
    args: ["8080"],
    env: { ID: "the guest" },
    firstLine: "listening on 8080",
  });
  const ip = await netPod.ip();

  await replace(async () => {
    // Nobody but the guest itself is there: it writes its last line and ends.
    await brief.printed("awake");
    assert.equal(await httpGet(ip, 8080), "hello from the guest\n");
  });

  await expectReady(pod);
  assert.equal(await pidOf(pod), pid, "it is the same process");
  assert.equal(await sleeping.state(), "RUNNING");
  const { exitCode, reason } = await brief.exited();
  assert.deepEqual([exitCode, reason], [0, "Completed"]);
  assert.equal((await ended.container.status()).exitCode, 5, "an old exit code is still known");
  assert.equal(await httpGet(ip, 8080), "hello from the guest\n");
  const { exitCode: execCode, stdout } = await sleeping.exec(["/args.wasm", "one"]);
  assert.equal(execCode, 0);
  assert.match(stdout, /arg one/);
  await created.start();
  assert.equal((await created.exited()).exitCode, 0);
  await expectHello(netPod);
  await sleeping.stop(0);
  assert.equal((await sleeping.exited()).exitCode, 137);
}

test("a sandboxer that is killed leaves pods and guests running, the next takes over", async (context) => {
  await expectOutlived(context, async (whileAway) => {
    await context.sandboxer.process.kill();
    await whileAway();
    await context.sandboxer.start();
  });
});

test("a sandboxer that is restarted takes its pods over", async (context) => {
  await expectOutlived(context, async (whileAway) => {
    await context.sandboxer.process.stop();
    await whileAway();
    await context.sandboxer.start();
  });
});

test("sandboxer and containerd can be restarted one after the other", async (context) => {
  await using pod = await context.runPod(PROCESS);
  const sleeping = await startGuest(pod, "sleep", { firstLine: "sleeping" });
  await context.sandboxer.process.kill();
  await context.sandboxer.start();
  await context.bed.containerd.restart();
  await expectReady(pod);
  assert.equal(await sleeping.state(), "RUNNING");
  await expectHello(pod);
  await context.sandboxer.process.kill();
  await context.sandboxer.start();
  await expectReady(pod);
  assert.equal(await sleeping.state(), "RUNNING");
  await sleeping.stop(0);
  assert.equal((await sleeping.exited()).exitCode, 137);
});

test("a process that ended while no sandboxer watched is noticed by the next", async (context) => {
  await using pod = await context.runPod(PROCESS);
  const sleeping = await startGuest(pod, "sleep", { firstLine: "sleeping" });
  await context.sandboxer.process.kill();
  Deno.kill(await pidOf(pod), "SIGKILL");
  await context.sandboxer.start();
  assert.notEqual((await sleeping.exited()).exitCode, 0);
  await waitFor("the pod to be NOTREADY", async () => {
    return (await pod.status()).state === PodSandboxState.SANDBOX_NOTREADY;
  });
});

test("the annotation chooses, and any other value is refused by name", async (context) => {
  const annotations = (value: string) => ({ annotations: { [ANNOTATION]: value } });
  await using byAnnotation = await context.runPod(THREAD, annotations("process"));
  await pidOf(byAnnotation);
  await expectHello(byAnnotation);
  await using threads = await context.runPod(THREAD, annotations("thread"));
  assert.equal(await runtimeProcess(threads.id), undefined);
  await expectHello(threads);
  for (const value of ["vm", "", "Process"]) {
    await assert.rejects(
      context.runPod(THREAD, annotations(value)),
      /annotation "quasaur\.dev\/isolation" is .*expected "thread" or "process"/,
    );
  }
  await assert.rejects(context.runPod(PROCESS, annotations("thread")), /gives every pod a process/);
});

test("a pod that takes more memory than it may is ended by the kernel, as OOMKilled", async (context) => {
  await using neighbour = await context.runPod(PROCESS);
  const sleeping = await startGuest(neighbour, "sleep", { firstLine: "sleeping" });
  const resources = { memoryLimitInBytes: 32n << 20n };
  await using pod = await context.runPod(PROCESS, { resources });
  const container = await pod.startContainer({
    image: WASM_IMAGE,
    command: ["/memory.wasm"],
    args: ["1024", "60"],
  });
  const { exitCode, reason } = await container.exited(30_000);
  assert.deepEqual([exitCode, reason], [137, "OOMKilled"]);
  assert.equal(await sleeping.state(), "RUNNING");
});

test("processes end by themselves when the sandboxer's state is removed", async (context) => {
  const pod = await context.runPod(PROCESS);
  await startGuest(pod, "sleep", { firstLine: "sleeping" });
  const pid = await pidOf(pod);
  await context.sandboxer.process.stop();
  await Deno.remove(`${context.sandboxer.paths.stateDirectory}/processes`, { recursive: true });
  await waitFor("the process to end", async () => !await exists(pid), { timeoutMs: 30_000 });
  await context.sandboxer.start();
  await waitFor("the pod to be removed", async () => {
    await context.cri.removePod(pod.id);
    return true;
  }, { timeoutMs: 30_000 });
});
