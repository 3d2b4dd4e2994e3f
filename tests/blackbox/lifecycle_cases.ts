/**
 * Cases about pods and containers coming, being seen and going.
 *
 * @module
 */

import assert from "node:assert/strict";
import { PodSandboxState } from "../../proto/gen/runtime/v1/api_pb.ts";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import { runtime } from "../support/cri.ts";
import { rejectsWith } from "./rejects.ts";
import type { Target } from "./target.ts";

/** One second, in the nanoseconds of CRI's times. */
const SECOND_NS = 1_000_000_000n;

/** Registers the cases. */
export function lifecycleCases(target: Target, test: RegisterBedTest): void {
  const { handler, image } = target;
  const program = (name: Parameters<Target["path"]>[0], ...args: string[]) => ({
    image,
    command: [target.path(name)],
    args,
  });
  podCases(target, test);

  test("a container is CREATED, RUNNING and EXITED, with a time for each", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const before = BigInt(Date.now() - 1_000) * 1_000_000n;
    const container = await pod.createContainer(program("sleep"));
    assert.equal(await container.state(), "CREATED");
    await container.start();
    assert.equal(await container.state(), "RUNNING");
    await container.printed("sleeping");
    await container.stop(0);
    const status = await container.exited();
    assert.ok(before < status.createdAt, "createdAt is in the past");
    assert.ok(status.createdAt <= status.startedAt, "it started after it was created");
    assert.ok(status.startedAt <= status.finishedAt, "it finished after it started");
    assert.ok(status.finishedAt < before + 60n * SECOND_NS, "finishedAt is not in the future");
  });

  test("a container that ends by itself is EXITED and Completed, with its output", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const finished = await pod.runContainer(program("hello"));
    assert.equal(finished.exitCode, 0);
    assert.equal(finished.reason, "Completed");
    assert.deepEqual(finished.stdout, [target.greeting]);
    assert.deepEqual(finished.stderr, []);
  });

  test("containers are listed with their labels, and gone once removed", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const options = { ...program("sleep"), labels: { tier: "back" }, annotations: { note: "x" } };
    const container = await pod.startContainer(options);
    await container.printed("sleeping");
    const { containers } = await cri.client.call(runtime.listContainers, {
      filter: { podSandboxId: pod.id, labelSelector: { tier: "back" } },
    });
    assert.deepEqual(containers.map(({ id }) => id), [container.id]);
    const status = await container.status();
    assert.equal(status.labels["tier"], "back");
    assert.equal(status.annotations["note"], "x");
    await container.stop(0);
    await container.remove();
    assert.deepEqual(await cri.containerIds(pod.id), []);
    await rejectsWith("NotFound", container.status());
  });

  test("two containers of a pod run side by side and end each by itself", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const first = await pod.startContainer({ ...program("sleep"), name: "first" });
    const second = await pod.startContainer({ ...program("sleep"), name: "second" });
    await first.printed("sleeping");
    await second.printed("sleeping");
    await first.stop(0);
    assert.equal(await first.state(), "EXITED");
    assert.equal(await second.state(), "RUNNING");
    assert.equal((await pod.status()).state, PodSandboxState.SANDBOX_READY);
  });

  test("a new container can run in a pod after the old one ended", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    for (let attempt = 0; attempt < 3; attempt++) {
      const { container, stdout } = await pod.runContainer({
        ...program("hello"),
        name: `attempt-${attempt}`,
      });
      assert.deepEqual(stdout, [target.greeting]);
      await container.remove();
    }
  });

  test("removing a container that runs kills it", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer(program("spin"));
    await container.printed("spinning");
    await container.remove();
    await rejectsWith("NotFound", container.status());
    assert.equal((await pod.status()).state, PodSandboxState.SANDBOX_READY);
  });
}

/** Cases about the pod itself. */
function podCases({ handler, image, path }: Target, test: RegisterBedTest): void {
  test("a pod is READY with what it was given, and NOTREADY once stopped", async ({ cri }) => {
    const labels = { app: "shop", tier: "front" };
    await using pod = await cri.runPod({ handler, labels, annotations: { note: "x y" } });
    const status = await pod.status();
    assert.equal(status.state, PodSandboxState.SANDBOX_READY);
    assert.equal(status.metadata?.name, pod.config.metadata?.name);
    assert.deepEqual(status.labels, labels);
    assert.deepEqual(status.annotations, { note: "x y" });
    assert.equal(status.runtimeHandler, handler);
    const ageMs = Date.now() - Number(status.createdAt / 1_000_000n);
    assert.ok(ageMs > -1_000 && ageMs < 60_000, `created ${ageMs} ms ago`);
    await pod.stop();
    assert.equal((await pod.status()).state, PodSandboxState.SANDBOX_NOTREADY);
  });

  test("a pod is listed until it is removed", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    assert.ok((await cri.podIds()).includes(pod.id));
    await pod.stop();
    assert.ok((await cri.podIds()).includes(pod.id));
    await pod.remove();
    assert.ok(!(await cri.podIds()).includes(pod.id));
    await rejectsWith("NotFound", pod.status());
  });

  test("stopping and removing a pod twice succeeds", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    await pod.stop();
    await pod.stop();
    await pod.remove();
    await pod.remove();
  });

  test("a pod that is removed takes its running containers along", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const sleeping = await pod.startContainer({ name: "a", image, command: [path("sleep")] });
    const spinning = await pod.startContainer({ name: "b", image, command: [path("spin")] });
    await sleeping.printed("sleeping");
    await spinning.printed("spinning");
    await pod.stop();
    assert.equal(await sleeping.state(), "EXITED");
    assert.equal(await spinning.state(), "EXITED");
    await pod.remove();
    await rejectsWith("NotFound", sleeping.status());
  });

  test("a pod with the name of a removed pod can be run", async ({ cri }) => {
    for (let round = 0; round < 2; round++) {
      await using pod = await cri.runPod({ handler, name: "again" });
      assert.equal((await pod.status()).state, PodSandboxState.SANDBOX_READY);
    }
  });
}
