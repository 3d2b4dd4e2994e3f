import assert from "node:assert/strict";
import { PodSandboxState } from "../proto/gen/runtime/v1/api_pb.ts";
import { WASM_IMAGE, wasmTarget } from "./blackbox/wasm_target.ts";
import { Bed, type BedOptions } from "./support/bed.ts";
import { withLogs } from "./support/bed_tests.ts";
import type { Container, Cri, Pod } from "./support/cri.ts";
import { httpGet } from "./support/http.ts";
import { leaks, type Snapshot, snapshot } from "./support/leaks.ts";
import { mountsBelow } from "./support/mount_table.ts";
import { waitFor } from "./support/wait.ts";

const HANDLER = wasmTarget.handler;

/** Exit codes of a process that was stopped: by SIGTERM, or by SIGKILL. */
const STOPPED = [128 + 15, 128 + 9];

/** Registers a test with a bed of its own: these tests kill what others would share. */
function test(
  name: string,
  body: (bed: Bed, cri: Cri) => Promise<void>,
  options: BedOptions = {},
): void {
  Deno.test(name, async () => {
    await using bed = await Bed.start({ ...wasmTarget.bed, ...options });
    await withLogs(bed, async () => {
      await wasmTarget.importImages(bed);
      using cri = bed.cri();
      await warmUp(cri);
      await body(bed, cri);
    });
  });
}

/** The first pod of each network brings directories that stay. */
async function warmUp(cri: Cri): Promise<void> {
  for (const network of ["host", "pod"] as const) {
    await using pod = await cri.runPod({ handler: HANDLER, network });
    await expectHello(pod);
  }
}

/** Starts a guest and waits for its first words. */
async function startGuest(pod: Pod, name: "sleep" | "spin"): Promise<Container> {
  const container = await pod.startContainer({
    name: `${name}-${crypto.randomUUID().slice(0, 4)}`,
    image: WASM_IMAGE,
    command: [`/${name}.wasm`],
  });
  await container.printed(/^(sleeping|spinning)$/);
  return container;
}

/** Starts the server of a pod and returns its address. */
async function startServer(pod: Pod): Promise<string> {
  const container = await pod.startContainer({
    name: "server",
    image: WASM_IMAGE,
    command: ["/server.wasm"],
    args: ["8080"],
    env: { ID: "the guest" },
  });
  await container.printed("listening on 8080");
  return await pod.ip();
}

/** Runs a short container in a pod and expects it to work. */
async function expectHello(pod: Pod): Promise<void> {
  const name = `hello-${crypto.randomUUID().slice(0, 4)}`;
  const finished = await pod.runContainer({ name, image: WASM_IMAGE, command: ["/hello.wasm"] });
  assert.equal(finished.exitCode, 0);
  assert.deepEqual(finished.stdout, ["hello from wasm"]);
}

/** Waits until a pod is READY. */
async function expectReady(pod: Pod): Promise<void> {
  await waitFor(`pod "${pod.id}" to be READY`, async () => {
    return (await pod.status()).state === PodSandboxState.SANDBOX_READY;
  });
}

/** What containerd and the sandboxer hold for pods, but for the sandboxer's process itself. */
async function look(bed: Bed): Promise<Snapshot> {
  const { state, directory } = bed.containerd;
  return await snapshot({
    mountsBelow: [directory],
    filesBelow: [
      `${state}/io.containerd.runtime.v2.task`,
      `${state}/io.containerd.grpc.v1.cri`,
      bed.sandboxer("wasm").paths.runDirectory,
    ],
  });
}

/** Waits until nothing is there that was not there before. */
async function expectNothingLeft(bed: Bed, before: Snapshot): Promise<void> {
  await waitFor("everything to be gone", async () => {
    const found = leaks(before, await look(bed));
    if (found.length > 0) throw new Error(found.join("\n"));
    return true;
  });
}

test("containers keep running while containerd restarts", async (bed, cri) => {
  const before = await look(bed);
  {
    await using hostPod = await cri.runPod({ handler: HANDLER });
    await using netPod = await cri.runPod({ handler: HANDLER, network: "pod" });
    const sleeping = await startGuest(hostPod, "sleep");
    const spinning = await startGuest(hostPod, "spin");
    const ip = await startServer(netPod);

    await bed.containerd.restart();

    await expectReady(hostPod);
    await expectReady(netPod);
    for (const container of [sleeping, spinning]) assert.equal(await container.state(), "RUNNING");
    assert.equal(await netPod.ip(), ip);
    assert.equal(await httpGet(ip, 8080), "hello from the guest\n");
    await expectHello(hostPod);
    await sleeping.stop(1);
    await spinning.stop(0);
    for (const container of [sleeping, spinning]) {
      const { exitCode } = await container.exited();
      assert.ok(STOPPED.includes(exitCode), `exit code ${exitCode}`);
    }
  }
  await expectNothingLeft(bed, before);
});

test("containers keep running while containerd is killed and started again", async (bed, cri) => {
  const before = await look(bed);
  {
    await using pod = await cri.runPod({ handler: HANDLER });
    const sleeping = await startGuest(pod, "sleep");
    await bed.containerd.process.kill();
    await bed.containerd.resume();
    await expectReady(pod);
    assert.equal(await sleeping.state(), "RUNNING");
    await expectHello(pod);
  }
  await expectNothingLeft(bed, before);
});

test("a container that ends while containerd is down is EXITED after", async (bed, cri) => {
  const before = await look(bed);
  {
    await using pod = await cri.runPod({ handler: HANDLER });
    const container = await pod.startContainer({
      image: WASM_IMAGE,
      command: ["/sleep.wasm"],
      args: ["1"],
    });
    await container.printed("sleeping");
    await bed.containerd.process.stop();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await bed.containerd.resume();
    // containerd takes a task without processes for a leftover, whatever its runtime (runc's too),
    // and forgets its exit code: then it says 255.
    assert.ok([0, 255].includes((await container.exited()).exitCode));
    await expectReady(pod);
    await expectHello(pod);
  }
  await expectNothingLeft(bed, before);
});

/** What must hold after a sandboxer ended in some way and another one took its place. */
async function expectRecovery(
  bed: Bed,
  cri: Cri,
  replace: () => Promise<void>,
): Promise<void> {
  const before = await look(bed);
  {
    await using hostPod = await cri.runPod({ handler: HANDLER });
    await using netPod = await cri.runPod({ handler: HANDLER, network: "pod" });
    const sleeping = await startGuest(hostPod, "sleep");
    const ip = await startServer(netPod);
    const ended = await hostPod.runContainer({
      name: "ended",
      image: WASM_IMAGE,
      command: ["/args.wasm"],
      env: { EXIT_CODE: "5" },
    });

    await replace();

    await expectReady(hostPod);
    await expectReady(netPod);
    assert.notEqual((await sleeping.exited()).exitCode, 0, "a lost container did not succeed");
    assert.equal((await ended.container.status()).exitCode, 5, "an old exit code is still known");
    await assert.rejects(httpGet(ip, 8080));
    await expectHello(hostPod);
    await expectHello(netPod);
    assert.equal(await netPod.ip(), ip);
  }
  await expectNothingLeft(bed, before);
  assert.deepEqual(await mountsBelow(bed.containerd.state), []);
}

test("a sandboxer that was killed leaves pods READY and nothing else", async (bed, cri) => {
  const { process } = bed.sandboxer("wasm");
  await expectRecovery(bed, cri, async () => {
    await process.kill();
    await bed.sandboxer("wasm").start();
  });
});

test("a sandboxer that was stopped leaves pods READY and nothing else", async (bed, cri) => {
  await expectRecovery(bed, cri, () => bed.sandboxer("wasm").restart());
});

test("a sandboxer and containerd restarted one after the other agree again", async (bed, cri) => {
  await expectRecovery(bed, cri, async () => {
    await bed.sandboxer("wasm").process.kill();
    await bed.sandboxer("wasm").start();
    await bed.containerd.restart();
  });
});

test("pods that are removed while the sandboxer is down go once it is back", async (bed, cri) => {
  const before = await look(bed);
  const pod = await cri.runPod({ handler: HANDLER, network: "pod" });
  await startGuest(pod, "sleep");
  await bed.sandboxer("wasm").process.kill();
  const removal = cri.removePod(pod.id).catch(() => {});
  await bed.sandboxer("wasm").start();
  await removal;
  await waitFor("the pod to be removed", async () => {
    await cri.removePod(pod.id);
    return !(await cri.podIds()).includes(pod.id);
  });
  await expectNothingLeft(bed, before);
});

test("no pod starts without the sandboxer, and pods start once it is there", async (bed, cri) => {
  await bed.sandboxer("wasm").process.stop();
  const name = "early";
  await assert.rejects(cri.runPod({ handler: HANDLER, name, timeoutMs: 10_000 }));
  await bed.sandboxer("wasm").start();
  // containerd pauses between its attempts to connect.
  await waitFor("a pod to start", async () => {
    await using pod = await cri.runPod({ handler: HANDLER });
    await expectHello(pod);
    return true;
  }, { timeoutMs: 30_000 });
});

test("containerd can be started before the sandboxer", async (_, cri) => {
  await using pod = await cri.runPod({ handler: HANDLER });
  await expectHello(pod);
}, { containerdFirst: true });
