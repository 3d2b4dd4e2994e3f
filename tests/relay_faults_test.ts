/**
 * The relay of task calls dies, by itself or together with the sandboxer. containerd gives its
 * containers up then, so they end in fact as well; pods go on, and take new containers.
 *
 * @module
 */

import assert from "node:assert/strict";
import { PodSandboxState } from "../proto/gen/runtime/v1/api_pb.ts";
import { gvisorTarget } from "./blackbox/gvisor_target.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import {
  expectAlive,
  expectNothingLeft,
  look,
  runGvisor,
  sandboxOf,
  startSleep,
} from "./support/gvisor.ts";
import { waitFor } from "./support/wait.ts";

const test = bedTests(gvisorTarget.bed, async (bed) => {
  await gvisorTarget.importImages(bed);
  using cri = bed.cri();
  await using pod = await runGvisor(cri);
  await expectAlive(await startSleep(pod));
});

/** Kills the relay of a bed. */
async function killRelay(bed: Bed): Promise<number> {
  const note = `${bed.sandboxer("quark").paths.stateDirectory}/task-relay.json`;
  const { pid } = JSON.parse(await Deno.readTextFile(note));
  Deno.kill(pid, "SIGKILL");
  return pid;
}

for (
  const [name, kill] of [
    ["a relay that is killed", (bed: Bed) => killRelay(bed)],
    ["a relay that is killed together with its sandboxer", async (bed: Bed) => {
      await bed.sandboxer("quark").process.kill();
      await killRelay(bed);
      await bed.sandboxer("quark").start();
    }],
  ] as const
) {
  test(`${name} ends its containers, for containerd and in fact, and no pod`, async ({ bed, cri }) => {
    const before = await look(bed);
    {
      await using pod = await runGvisor(cri);
      const container = await startSleep(pod);
      const pid = await sandboxOf(pod);
      await kill(bed);
      assert.equal((await container.exited()).exitCode, 255);
      await waitFor("the sandboxer to have ended it", async () => {
        const log = await bed.sandboxer("quark").process.log();
        return log.includes("ending the containers that it has given up") &&
          log.includes(container.id);
      });
      // Another relay serves: the pod is the same, and takes another container.
      const next = await waitFor("another container", () => startSleep(pod, crypto.randomUUID()));
      await expectAlive(next);
      assert.equal(await sandboxOf(pod), pid);
      assert.equal((await pod.status()).state, PodSandboxState.SANDBOX_READY);
      assert.doesNotMatch(await bed.sandboxer("quark").process.log(), /cannot end a container/);
    }
    await expectNothingLeft(bed, before);
  });
}
