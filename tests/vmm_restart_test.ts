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
import { KeepStarting } from "./support/keep_starting.ts";
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
      assert.deepEqual((await container.log()).stdout, ["begin", "end"]);
    }
    await sleeping.stop(0);
    assert.equal((await sleeping.exited()).exitCode, 137);
    const late = await startSleep(pod, "late");
    await expectAlive(late);
  }
  await expectNothingLeft(bed, before);
});

test("a pod whose VMM died while no sandboxer ran is cleaned up, others go on", async ({ bed }) => {
  using cri = vmmCri(bed);
  const before = await look(bed);
  {
    await using other = await runVm(cri);
    const spared = await startSleep(other);
    await using pod = await runVm(cri);
    const container = await startSleep(pod);
    const pid = await vmmOf(pod);
    await kill(bed);
    Deno.kill(pid, "SIGKILL");
    await bed.sandboxer("vmm").start();
    await expectNotReady(pod);
    assert.notEqual((await container.exited()).exitCode, 0);
    await expectAlive(spared);
  }
  await expectNothingLeft(bed, before);
});

for (
  const [what, annotations, isNoted] of [
    ["a pod", {}, true],
    ["a pod, before it could take note,", {}, false],
    ["a template", { "quasaur.dev/memory-in-mb": "136" }, true],
    ["a pod with a shared tree", { "quasaur.dev/share-fs": "virtiofs" }, true],
  ] as const
) {
  test(`a sandboxer that is killed while it starts ${what} leaves nothing to the next`, async ({ bed }) => {
    using cri = vmmCri(bed);
    const before = await look(bed);
    const vmms = (await vmmsOf(bed)).length;
    const starting = new KeepStarting(() => runVm(cri, { annotations, timeoutMs: 20_000 }));
    await waitFor("a VMM to start", async () => (await vmmsOf(bed)).length > vmms, {
      intervalMs: 1,
    });
    starting.noMore();
    await kill(bed);
    const { stateDirectory } = bed.sandboxer("vmm").paths;
    for await (const { name } of Deno.readDir(`${stateDirectory}/running`)) {
      if (!isNoted) await Deno.remove(`${stateDirectory}/running/${name}`);
    }
    await bed.sandboxer("vmm").start();
    // Where it was ready before anybody could look.
    await starting.remove();
    // Who knows of no machine does not know its cgroup: that goes with the pod's.
    await expectNothingLeft(bed, isNoted ? before : { ...before, cgroups: undefined });
  });
}

test("a second sandboxer at the same place is refused, and disturbs nothing", async ({ bed }) => {
  using cri = vmmCri(bed);
  await using pod = await runVm(cri);
  const container = await startSleep(pod);
  const { paths } = bed.sandboxer("vmm");
  const before = await look(bed);
  const own = sandboxerArguments(sandboxerProgram("vmm"), paths, "debug");
  const elsewhere = `${bed.directory}/elsewhere.sock`;
  const attempts: readonly (readonly [string, RegExp])[] = [
    // Another place for the calls, the same state.
    [`--task-listen=${elsewhere}`, /another sandboxer is using it/],
    // Another state, the same sockets.
    [`--dir=${bed.directory}/elsewhere`, /another sandboxer is already listening/],
  ];
  for (const [flag, expected] of attempts) {
    const name = flag.split("=")[0];
    const second = new ManagedProcess({
      name: "second sandboxer",
      command: [
        Deno.execPath(),
        ...own.map((word) => word.startsWith(`${name}=`) ? flag : word)
          .map((word) => allowElsewhere(word, bed.directory)),
      ],
      logPath: `${bed.directory}/second.log`,
    });
    await second.start();
    await waitFor("the second sandboxer to end", () => !second.running);
    assert.match(await second.log(), expected);
  }
  await expectAlive(container);
  await expectNothingLeft(bed, before);
});

/** The second sandboxer may use places of its own too. */
function allowElsewhere(word: string, directory: string): string {
  if (word.startsWith("--allow-net=")) return `${word},unix:${directory}/elsewhere.sock`;
  if (/^--allow-(read|write)=/.test(word)) return `${word},${directory}/elsewhere`;
  return word;
}
