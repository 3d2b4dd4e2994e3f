/**
 * Sandboxers that end in some way and come back: microVMs go on meanwhile, and the next sandboxer
 * takes them over or cleans up after them. Two sandboxers never work at the same place.
 *
 * @module
 */

import assert from "node:assert/strict";
import { vmmTarget } from "./blackbox/vmm_target.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import { ManagedProcess } from "./support/managed_process.ts";
import { sandboxerArguments, sandboxerProgram } from "./support/sandboxer.ts";
import {
  expectAlive,
  expectHello,
  expectNothingLeft,
  expectNotReady,
  look,
  runVm,
  startSleep,
  vmmCri,
  vmmOf,
  vmmsOf,
} from "./support/vmm.ts";
import { waitFor } from "./support/wait.ts";

const { image } = vmmTarget;

/** Output of the last moments before a kill may come twice: a process is quiet for so long, in milliseconds. */
const QUIET_MS = 300;

const test = bedTests(vmmTarget.bed, async (bed) => {
  await vmmTarget.importImages(bed);
  using cri = vmmCri(bed);
  await expectHello(cri);
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Kills the sandboxer of a bed. */
async function kill(bed: Bed): Promise<void> {
  await bed.sandboxer("vmm").process.kill();
}

test("pods outlive their sandboxer: output, exits, exec and stop go on", async ({ bed }) => {
  using cri = vmmCri(bed);
  const before = await look(bed);
  {
    await using pod = await runVm(cri);
    const sleeping = await startSleep(pod);
    const [first, second] = await Promise.all([6, 9].map((seconds, index) =>
      pod.startContainer({
        name: `ending-${index}`,
        image,
        command: ["/bin/sh", "-c", `echo begin; sleep ${seconds}; echo end; exit ${seconds}`],
      })
    ));
    assert.ok(first !== undefined && second !== undefined);
    await first.printed("begin");
    await second.printed("begin");
    const pid = await vmmOf(pod);
    await pause(QUIET_MS);

    await kill(bed);
    await pause(2_000);
    await bed.sandboxer("vmm").start();
    // containerd takes a moment to find the sandboxer again.
    assert.equal(await waitFor("the sandboxer to answer", () => vmmOf(pod)), pid);
    await expectAlive(sleeping);

    await bed.sandboxer("vmm").process.stop();
    await pause(2_000);
    await bed.sandboxer("vmm").start();
    assert.equal(await waitFor("the sandboxer to answer", () => vmmOf(pod)), pid);
    await expectAlive(sleeping);

    for (const [container, status] of [[first, 6], [second, 9]] as const) {
      assert.equal((await container.exited()).exitCode, status);
      const out = (await container.log()).stdout;
      if (out.length !== 2) {
        const lines = (await bed.containerd.process.log()).split("\n").filter((l) =>
          l.includes("Finish piping") || l.includes("exit event")
        );
        console.log(lines.map((l) => l.slice(0, 220)).join("\n"));
        console.log(status, container.id, out);
      }
      assert.deepEqual(out, ["begin", "end"]);
    }
    await sleeping.stop(0);
    assert.equal((await sleeping.exited()).exitCode, 137);
    const late = await startSleep(pod, "late");
    await expectAlive(late);
  }
  await expectNothingLeft(bed, before);
});
