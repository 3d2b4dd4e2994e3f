import assert from "node:assert/strict";
import { PodSandboxState } from "../proto/gen/runtime/v1/api_pb.ts";
import { vmmTarget } from "./blackbox/vmm_target.ts";
import { Bed } from "./support/bed.ts";
import { withLogs } from "./support/bed_tests.ts";
import { run } from "./support/command.ts";
import type { Container, Cri, Pod } from "./support/cri.ts";
import { leaks, type Snapshot, snapshot } from "./support/leaks.ts";
import { waitFor } from "./support/wait.ts";

const { handler, image } = vmmTarget;

/** Registers a test with a bed of its own: these tests kill what others would share. */
function test(name: string, body: (bed: Bed, cri: Cri) => Promise<void>): void {
  Deno.test(`vmm: ${name}`, async () => {
    await using bed = await Bed.start(vmmTarget.bed);
    await withLogs(bed, async () => {
      await vmmTarget.importImages(bed);
      using cri = bed.cri();
      cri.network = "pod";
      await body(bed, cri);
    });
  });
}

/** The VMM of a pod: containerd tells its process id. */
async function vmmOf(pod: Pod): Promise<number> {
  const { pid } = JSON.parse((await pod.info())["info"] ?? "{}");
  assert.ok(Number.isInteger(pid) && pid > 1, `process id ${pid}`);
  const { stdout } = await run(["cat", `/proc/${pid}/comm`]);
  assert.match(stdout, /^qemu/);
  return pid;
}

/** Starts a container that prints a line and sleeps. */
async function startSleep(pod: Pod, name = "sleep"): Promise<Container> {
  const container = await pod.startContainer({ name, image, command: [vmmTarget.path("sleep")] });
  await container.printed("sleeping");
  return container;
}

/** Waits until a pod is NOTREADY. */
async function expectNotReady(pod: Pod): Promise<void> {
  await waitFor(`pod "${pod.id}" to be NOTREADY`, async () => {
    return (await pod.status()).state === PodSandboxState.SANDBOX_NOTREADY;
  }, { timeoutMs: 40_000 });
}

/** What is there of a bed's pods. */
async function look(bed: Bed): Promise<Snapshot> {
  const { state, directory } = bed.containerd;
  return await snapshot({
    mountsBelow: [directory],
    filesBelow: [
      `${state}/io.containerd.runtime.v2.task`,
      `${state}/io.containerd.grpc.v1.cri`,
      bed.sandboxer("vmm").paths.runDirectory,
    ],
  });
}

/** Waits until nothing is there that was not there before. */
async function expectNothingLeft(bed: Bed, before: Snapshot): Promise<void> {
  await waitFor("everything to be gone", async () => {
    // Templates stay, and may have been made meanwhile.
    const found = leaks(before, await look(bed)).filter((text) => !/\/templates\//.test(text));
    if (found.length > 0) throw new Error(found.join("\n"));
    return true;
  });
}

/** Runs a short container in a fresh pod and expects it to work. */
async function expectHello(cri: Cri): Promise<void> {
  await using pod = await cri.runPod({ handler });
  const finished = await pod.runContainer({ image, command: [vmmTarget.path("hello")] });
  assert.deepEqual(finished.stdout, [vmmTarget.greeting]);
}

test("a VMM that is killed takes its pod along, and nothing else", async (bed, cri) => {
  await expectHello(cri);
  const before = await look(bed);
  {
    await using other = await cri.runPod({ handler });
    const spared = await startSleep(other);
    await using pod = await cri.runPod({ handler });
    const container = await startSleep(pod);
    Deno.kill(await vmmOf(pod), "SIGKILL");
    await expectNotReady(pod);
    assert.notEqual((await container.exited()).exitCode, 0);
    assert.equal(await spared.state(), "RUNNING");
    assert.equal((await spared.exec([vmmTarget.path("hello")])).exitCode, 0);
  }
  await expectNothingLeft(bed, before);
});

test(
  "a guest that does not answer any more is noticed, and its pod is stopped",
  async (bed, cri) => {
    await expectHello(cri);
    const before = await look(bed);
    {
      await using pod = await cri.runPod({ handler });
      const container = await startSleep(pod);
      Deno.kill(await vmmOf(pod), "SIGSTOP");
      await expectNotReady(pod);
      assert.notEqual((await container.exited()).exitCode, 0);
      await expectHello(cri);
    }
    await expectNothingLeft(bed, before);
  },
);

test(
  "pods outlive a sandboxer that is killed: exec, output, exits and stop go on",
  async (bed, cri) => {
    await expectHello(cri);
    const before = await look(bed);
    {
      await using pod = await cri.runPod({ handler });
      const sleeping = await startSleep(pod);
      const command = ["/bin/sh", "-c", "echo begin; sleep 3; echo end; exit 6"];
      const ending = await pod.startContainer({ name: "ending", image, command });
      await ending.printed("begin");
      const pid = await vmmOf(pod);

      await bed.sandboxer("vmm").process.kill();
      await new Promise((resolve) => setTimeout(resolve, 3_500));
      await bed.sandboxer("vmm").start();

      // containerd takes a moment to find the sandboxer again.
      assert.equal(await waitFor("the sandboxer to answer", () => vmmOf(pod)), pid);
      assert.equal((await ending.exited()).exitCode, 6);
      assert.deepEqual((await ending.log()).stdout, ["begin", "end"]);
      assert.equal(await sleeping.state(), "RUNNING");
      assert.equal(
        (await sleeping.exec([vmmTarget.path("hello")])).stdout,
        `${vmmTarget.greeting}\n`,
      );
      await sleeping.stop(0);
      assert.equal((await sleeping.exited()).exitCode, 137);
      await expectHello(cri);
    }
    await expectNothingLeft(bed, before);
  },
);

test("a pod whose VMM died while no sandboxer ran is cleaned up", async (bed, cri) => {
  await expectHello(cri);
  const before = await look(bed);
  {
    await using pod = await cri.runPod({ handler });
    await startSleep(pod);
    const pid = await vmmOf(pod);
    await bed.sandboxer("vmm").process.kill();
    Deno.kill(pid, "SIGKILL");
    await bed.sandboxer("vmm").start();
    await expectNotReady(pod);
    await expectHello(cri);
  }
  await expectNothingLeft(bed, before);
});
