/**
 * Cases about what cannot be: it is refused with an error that says why, nothing of it stays, and
 * nothing else is disturbed.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import { runtime } from "../support/cri.ts";
import { rejectsWith } from "./rejects.ts";
import type { Target } from "./target.ts";

/** Registers the cases. */
export function refusalCases(target: Target, test: RegisterBedTest): void {
  const { handler, image, path, abilities, greeting } = target;

  test("an image that is not there is refused, and the pod goes on", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    await rejectsWith(
      ["NotFound", "Unknown"],
      pod.createContainer({ image: "quasaur.test/no-such-image:1" }),
      /no-such-image/,
    );
    assert.deepEqual((await pod.runContainer({ image, command: [path("hello")] })).stdout, [
      greeting,
    ]);
  });

  test("a program that is not in the image is refused by name, and the pod goes on", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.createContainer({
      name: "bad",
      image,
      command: ["/no-such-program.wasm"],
    });
    await assert.rejects(container.start(), /no-such-program\.wasm/);
    assert.equal(await container.state(), "EXITED");
    await container.remove();
    assert.deepEqual((await pod.runContainer({ image, command: [path("hello")] })).stdout, [
      greeting,
    ]);
  });

  test("pods and containers that are not there are NotFound", async ({ cri }) => {
    const id = "0123456789abcdef";
    await rejectsWith("NotFound", cri.client.call(runtime.podSandboxStatus, { podSandboxId: id }));
    await rejectsWith("NotFound", cri.client.call(runtime.containerStatus, { containerId: id }));
    await rejectsWith("NotFound", cri.client.call(runtime.startContainer, { containerId: id }));
  });

  test("a container cannot be started twice", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer({ image, command: [path("sleep")] });
    await container.printed("sleeping");
    await assert.rejects(container.start(), /RUNNING/);
    assert.equal(await container.state(), "RUNNING");
  });

  test("no container can be made in a pod that is stopped", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    await pod.stop();
    await assert.rejects(pod.startContainer({ image, command: [path("hello")] }));
  });

  if (abilities.terminal) return;
  test("a terminal is refused with a clear message", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const options = { image, command: [path("hello")], tty: true };
    await assert.rejects(pod.startContainer(options), /terminal/i);
  });
}
