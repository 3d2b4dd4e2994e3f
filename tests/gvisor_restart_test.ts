/**
 * Sandboxers that end in some way and come back: pods of gVisor go on meanwhile, and the next
 * sandboxer takes them over or cleans up after them. Two sandboxers never work at the same place.
 *
 * @module
 */

import assert from "node:assert/strict";
import { gvisorTarget } from "./blackbox/gvisor_target.ts";
import type { Bed } from "./support/bed.ts";
import { bedTests } from "./support/bed_tests.ts";
import {
  expectAlive,
  expectHello,
  expectNothingLeft,
  expectNotReady,
  look,
  runGvisor,
  sandboxOf,
  startSleep,
} from "./support/gvisor.ts";
import { ManagedProcess } from "./support/managed_process.ts";
import { runscProcesses } from "./support/runsc_processes.ts";
import { sandboxerArguments, sandboxerProgram } from "./support/sandboxer.ts";
import { KeepStarting } from "./support/keep_starting.ts";
import { waitFor } from "./support/wait.ts";

const { image } = gvisorTarget;

const test = bedTests(gvisorTarget.bed, async (bed) => {
  await gvisorTarget.importImages(bed);
  using cri = bed.cri();
  await expectHello(cri);
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Kills the sandboxer of a bed. */
async function kill(bed: Bed): Promise<void> {
  await bed.sandboxer("quark").process.kill();
}

test("pods outlive their sandboxer: output, exits, exec and stop go on", async ({ bed, cri }) => {
  const before = await look(bed);
  {
    await using pod = await runGvisor(cri);
    const sleeping = await startSleep(pod);
    // One ends while nobody is there, the other afterwards.
    const [first, second] = await Promise.all([2, 7].map((seconds, index) =>
      pod.startContainer({
        name: `ending-${index}`,
        image,
        command: ["/bin/sh", "-c", `echo begin; sleep ${seconds}; echo end; exit ${seconds}`],
      })
    ));
    assert.ok(first !== undefined && second !== undefined);
    await first.printed("begin");
    await second.printed("begin");
    const script = "echo begin; sleep 2; exit 6";
    using ending = await sleeping.execStreaming(["/bin/sh", "-c", script]);
    await ending.printed("begin\n");
    using cat = await sleeping.execStreaming([gvisorTarget.path("cat")]);
    cat.send("before\n");
    await cat.printed("before\n");
    const pid = await sandboxOf(pod);

    // What asks for the end of an exec while nobody is there begins when it has run for 0.1 s.
    await pause(500);
    await kill(bed);
    await pause(2_500);
    await bed.sandboxer("quark").start();
    // containerd takes a moment to find the sandboxer again.
    assert.equal(await waitFor("the sandboxer to answer", () => sandboxOf(pod)), pid);
    await expectAlive(sleeping);
    assert.equal((await first.exited()).exitCode, 2);
    assert.equal((await ending.ended()).exitCode, 6);

    await bed.sandboxer("quark").process.stop();
    await bed.sandboxer("quark").start();
    assert.equal(await waitFor("the sandboxer to answer", () => sandboxOf(pod)), pid);
    await expectAlive(sleeping);
    cat.send("after\n");
    await cat.printed("before\nafter\n");

    assert.equal((await second.exited()).exitCode, 7);
    for (const container of [first, second]) {
      assert.deepEqual((await container.log()).stdout, ["begin", "end"]);
    }
    await sleeping.stop(0);
    assert.equal((await sleeping.exited()).exitCode, 137);
    assert.equal((await cat.ended()).exitCode, 137);
    await expectAlive(await startSleep(pod, "late"));
  }
  await expectNothingLeft(bed, before);
});

test("a pod whose sandbox died while no sandboxer ran is cleaned up, others go on", async ({ bed, cri }) => {
  const before = await look(bed);
  {
    await using other = await runGvisor(cri);
    const spared = await startSleep(other);
    await using pod = await runGvisor(cri);
    const container = await startSleep(pod);
    const pid = await sandboxOf(pod);
    await kill(bed);
    Deno.kill(pid, "SIGKILL");
    await bed.sandboxer("quark").start();
    await expectNotReady(pod);
    assert.notEqual((await container.exited()).exitCode, 0);
    await waitFor("the other pod to answer", () => sandboxOf(other));
    await expectAlive(spared);
  }
  await expectNothingLeft(bed, before);
});

/** Moments of a start at which the sandboxer is killed: as soon as so many processes run. */
const MOMENTS: readonly (readonly [string, (counts: ProcessCounts) => boolean])[] = [
  ["as soon as the sandbox's gofer runs", ({ gofers }) => gofers > 0],
  ["as soon as its sandbox runs", ({ sandboxes }) => sandboxes > 0],
  ["as soon as code runs in it", ({ stubs }) => stubs > 0],
];

/** How many more there are than before. */
interface ProcessCounts {
  readonly sandboxes: number;
  readonly gofers: number;
  readonly stubs: number;
}

async function count(bed: Bed): Promise<ProcessCounts> {
  const { sandboxes, gofers } = await runscProcesses(bed.directory);
  const stubs = sandboxes.reduce((sum, one) => sum + one.stubs.length, 0);
  return { sandboxes: sandboxes.length, gofers: gofers.length, stubs };
}

for (const [moment, isReached] of MOMENTS) {
  test(`a sandboxer that is killed while it starts a pod, ${moment}, leaves nothing to the next`, async ({ bed, cri }) => {
    const before = await look(bed);
    const starting = new KeepStarting(() => runGvisor(cri, { timeoutMs: 20_000 }));
    await waitFor("the pod to start", async () => isReached(await count(bed)), { intervalMs: 1 });
    starting.noMore();
    await kill(bed);
    await bed.sandboxer("quark").start();
    // Where it was ready before anybody could look.
    await starting.remove();
    await expectNothingLeft(bed, before);
  });
}

test("a sandboxer that is killed while it makes a container leaves a pod that works", async ({ bed, cri }) => {
  const before = await look(bed);
  const pod = await runGvisor(cri);
  try {
    const spared = await startSleep(pod);
    const { gofers } = await count(bed);
    const making = startSleep(pod, "made").catch(() => undefined);
    await waitFor("the container to start", async () => (await count(bed)).gofers > gofers, {
      intervalMs: 1,
    });
    await kill(bed);
    await bed.sandboxer("quark").start();
    await making;
    await waitFor("the sandboxer to answer", () => sandboxOf(pod));
    await expectAlive(spared);
    await expectAlive(await startSleep(pod, "next"));
  } finally {
    // What became of the container containerd has not heard: it may have to try again, as kubelet does.
    await waitFor("the pod to be removed", () => pod[Symbol.asyncDispose]().then(() => true));
  }
  await expectNothingLeft(bed, before);
});

test("a second sandboxer at the same place is refused, and disturbs nothing", async ({ bed, cri }) => {
  await using pod = await runGvisor(cri);
  const container = await startSleep(pod);
  const { paths } = bed.sandboxer("quark");
  const before = await look(bed);
  const second = new ManagedProcess({
    name: "second sandboxer",
    command: [
      Deno.execPath(),
      ...sandboxerArguments(sandboxerProgram("quark"), paths, "debug"),
    ],
    logPath: `${bed.directory}/second.log`,
  });
  await second.start();
  await waitFor("the second sandboxer to end", () => !second.running);
  assert.match(await second.log(), /another sandboxer is (using it|already listening)/);
  await expectAlive(container);
  await expectNothingLeft(bed, before);
});
