/**
 * Cases about many pods and containers at once, and about what is left when all are gone.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { Bed } from "../support/bed.ts";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import type { Cri } from "../support/cri.ts";
import { leaks, type Snapshot, snapshot } from "../support/leaks.ts";
import { waitFor } from "../support/wait.ts";
import type { Target } from "./target.ts";

/** How many containers of one pod write at once. */
const WRITERS = 20;

/** Registers the cases. */
export function loadCases(target: Target, test: RegisterBedTest): void {
  const { handler, image, path, greeting, podsAtOnce } = target;

  /** Runs a pod with a container to its end, and removes it. */
  async function wholeLife(cri: Cri, index: number): Promise<void> {
    const network = index % 5 === 0 ? "pod" : cri.network;
    await using pod = await cri.runPod({ handler, network });
    const finished = await pod.runContainer({ image, command: [path("hello")] }, 60_000);
    assert.equal(finished.exitCode, 0);
    assert.deepEqual(finished.stdout, [greeting]);
  }

  test(`${podsAtOnce} pods run at once, and nothing of them is left`, async ({ bed, cri }) => {
    // The first pod of a sandboxer brings things that stay, such as its libraries.
    await wholeLife(cri, 0);
    await wholeLife(cri, 1);
    const before = await look(bed, target);
    await Promise.all(Array.from({ length: podsAtOnce }, (_, index) => wholeLife(cri, index)));
    await waitFor("everything to be gone", async () => {
      const found = leaks(before, await look(bed, target));
      if (found.length > 0) throw new Error(found.join("\n"));
      return true;
    });
    assert.deepEqual(await cri.podIds(), []);
    assert.deepEqual(await cri.containerIds(), []);
  });

  test(`the output of ${WRITERS} containers at once is neither crossed nor lost`, async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    await Promise.all(Array.from({ length: WRITERS }, async (_, index) => {
      const options = { name: `w${index}`, image, command: [path("lines")], args: ["200"] };
      const env = { ID: `w${index}` };
      const finished = await pod.runContainer({ ...options, env }, 60_000);
      assert.equal(finished.exitCode, 0);
      assert.equal(finished.stdout.length, 200);
      assert.equal(finished.stderr.length, 20);
      for (const [number, line] of finished.stdout.entries()) {
        assert.ok(line.startsWith(`w${index} out ${number} `), line);
      }
    }));
  });
}

/** What is there of a bed's pods. */
async function look(bed: Bed, target: Target): Promise<Snapshot> {
  const { state, directory } = bed.containerd;
  const ours = bed.servingHandler(target.handler);
  return await snapshot({
    mountsBelow: [directory],
    filesBelow: [
      `${state}/io.containerd.runtime.v2.task`,
      `${state}/io.containerd.grpc.v1.cri`,
      ...ours === undefined ? [] : [ours.paths.runDirectory],
    ],
    ...ours === undefined ? {} : { pid: ours.process.pid },
  });
}
