/**
 * Faults of single pods of gVisor: a process of theirs dies, runsc itself is gone or broken, the disk
 * is full, or callers give up at any moment. Pods beside them must not notice, and nothing may be
 * left.
 *
 * @module
 */

import assert from "node:assert/strict";
import { statfs } from "node:fs/promises";
import { gvisorTarget } from "./blackbox/gvisor_target.ts";
import { bedTests } from "./support/bed_tests.ts";
import { run } from "./support/command.ts";
import type { Bed } from "./support/bed.ts";
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
import { runscProcesses } from "./support/runsc_processes.ts";
import { sandboxerProgram } from "./support/sandboxer.ts";
import { waitFor } from "./support/wait.ts";

const { image } = gvisorTarget;

/** Where the bed has runsc: it can be taken away. */
const DIRECTORY = await Deno.makeTempDir({ dir: "/var/tmp", prefix: "quasaur-runsc-" });
const RUNSC = `${DIRECTORY}/runsc`;
const INSTALLED = "/usr/bin/runsc";

const program = {
  ...sandboxerProgram("quark"),
  config: `[gvisor]\npath = "${RUNSC}"\n`,
  replacements: new Map([[INSTALLED, RUNSC]]),
};

const test = bedTests({ kinds: [program], runInMemory: true }, async (bed) => {
  await Deno.copyFile(INSTALLED, RUNSC);
  await gvisorTarget.importImages(bed);
  using cri = bed.cri();
  await expectHello(cri);
});

Deno.test.afterAll(async () => {
  await Deno.remove(DIRECTORY, { recursive: true });
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The gofers of a bed. */
async function gofersOf(bed: Bed): Promise<readonly number[]> {
  return (await runscProcesses(bed.directory)).gofers;
}

test("a sandbox that is killed takes its pod along, and nothing else", async ({ bed, cri }) => {
  await using other = await runGvisor(cri);
  const spared = await startSleep(other);
  const before = await look(bed);
  {
    await using pod = await runGvisor(cri);
    const container = await startSleep(pod);
    const second = await startSleep(pod, "second");
    Deno.kill(await sandboxOf(pod), "SIGKILL");
    await expectNotReady(pod);
    assert.notEqual((await container.exited()).exitCode, 0);
    assert.notEqual((await second.exited()).exitCode, 0);
    await expectAlive(spared);
  }
  await expectNothingLeft(bed, before);
  await expectAlive(spared);
});

test("a gofer that is killed takes its container along, and no other", async ({ bed, cri }) => {
  const before = await look(bed);
  {
    await using pod = await runGvisor(cri);
    const spared = await startSleep(pod, "spared");
    const others = await gofersOf(bed);
    const container = await startSleep(pod);
    const own = (await gofersOf(bed)).filter((pid) => !others.includes(pid));
    assert.equal(own.length, 1);
    Deno.kill(own[0] ?? 0, "SIGKILL");
    assert.notEqual((await container.exited()).exitCode, 0);
    await expectAlive(spared);
    await container.remove();
    await expectAlive(await startSleep(pod, "next"));
  }
  await expectNothingLeft(bed, before);
});

/** Ways to lose runsc, and what pods are told that need it. */
const LOSSES: readonly (readonly [string, () => Promise<void>, RegExp])[] = [
  ["is gone", () => Promise.resolve(), /runsc": no such program: install it/],
  [
    "is another program by now",
    () => Deno.writeTextFile(RUNSC, "#!/bin/sh\necho broken >&2\nexit 3\n", { mode: 0o755 }),
    /runsc ended with 3/,
  ],
];

for (const [what, replace, says] of LOSSES) {
  test(`where runsc ${what}, pods that run go on and new ones are refused`, async ({ bed, cri }) => {
    const before = await look(bed);
    {
      await using pod = await runGvisor(cri);
      const container = await startSleep(pod);
      await Deno.rename(RUNSC, `${RUNSC}.away`);
      try {
        await replace();
        await assert.rejects(runGvisor(cri), says);
        await assert.rejects(startSleep(pod, "new"), says);
        await expectAlive(container);
        await container.stop(0);
        assert.equal((await container.exited()).exitCode, 137);
        await pod.stop();
        await pod.remove();
      } finally {
        await Deno.rename(`${RUNSC}.away`, RUNSC);
      }
    }
    await expectNothingLeft(bed, before);
    await expectHello(cri);
  });
}

test("a sandboxer that comes back where runsc is gone takes pods over all the same", async ({ bed, cri }) => {
  const before = await look(bed);
  {
    await using pod = await runGvisor(cri);
    const container = await startSleep(pod);
    const sandbox = await sandboxOf(pod);
    await Deno.rename(RUNSC, `${RUNSC}.away`);
    try {
      await bed.sandboxer("quark").restart();
      assert.equal(await waitFor("the sandboxer to answer", () => sandboxOf(pod)), sandbox);
      await expectAlive(container);
      await assert.rejects(runGvisor(cri), /runsc": no such/);
      await container.stop(0);
      assert.equal((await container.exited()).exitCode, 137);
    } finally {
      await Deno.rename(`${RUNSC}.away`, RUNSC);
    }
  }
  await expectNothingLeft(bed, before);
  await expectHello(cri);
});

test("a container that cannot start is refused with what is wrong, and leaves nothing", async ({ bed, cri }) => {
  const before = await look(bed);
  {
    await using pod = await runGvisor(cri);
    const container = await startSleep(pod);
    await assert.rejects(
      pod.startContainer({ name: "nothing", image, command: ["/no/such/program"] }),
      /no\/such\/program/,
    );
    await expectAlive(container);
  }
  await expectNothingLeft(bed, before);
});

test("a full disk fails pods with a clear error, and no others", async ({ bed, cri }) => {
  const { runDirectory } = bed.sandboxer("quark").paths;
  const before = await look(bed);
  {
    await using other = await runGvisor(cri);
    const spared = await startSleep(other);
    try {
      await fill(`${runDirectory}/filler`, runDirectory);
      await assert.rejects(runGvisor(cri), /no space/i);
      await assert.rejects(startSleep(other, "another"), /no space/i);
      assert.equal(await spared.state(), "RUNNING");
    } finally {
      await Deno.remove(`${runDirectory}/filler`);
    }
    await expectAlive(spared);
    await expectAlive(await startSleep(other, "after"));
  }
  await expectNothingLeft(bed, before);
});

test("a sandboxer that comes back while its disk is full takes pods over", async ({ bed, cri }) => {
  const { process, paths: { runDirectory } } = bed.sandboxer("quark");
  const before = await look(bed);
  {
    await using pod = await runGvisor(cri);
    const container = await startSleep(pod);
    const sandbox = await sandboxOf(pod);
    try {
      await fill(`${runDirectory}/filler`, runDirectory);
      await process.kill();
      await bed.sandboxer("quark").start();
      assert.equal(await waitFor("the sandboxer to answer", () => sandboxOf(pod)), sandbox);
      assert.equal(await container.state(), "RUNNING");
      await assert.rejects(startSleep(pod, "another"), /no space/i);
      await process.stop();
      await bed.sandboxer("quark").start();
    } finally {
      await Deno.remove(`${runDirectory}/filler`);
    }
    assert.equal(await waitFor("the sandboxer to answer", () => sandboxOf(pod)), sandbox);
    await expectAlive(container);
    await expectAlive(await startSleep(pod, "after"));
  }
  await expectNothingLeft(bed, before);
});

/** Fills a file system with a file, to the last block. */
async function fill(path: string, directory: string): Promise<void> {
  const { bavail, bsize } = await statfs(directory);
  await run(["fallocate", "-l", `${bavail * bsize}`, path], { check: false });
  await run(["dd", "if=/dev/zero", `of=${path}`, "bs=4k", "oflag=append", "conv=notrunc"], {
    check: false,
  });
}

test("callers who give up while a pod starts leave nothing", async ({ bed, cri }) => {
  const before = await look(bed);
  // Anywhere between the first call and a pod that is ready.
  const outcomes = await Promise.all([50, 90, 140, 200, 300].map(async (timeoutMs) => {
    const pod = await runGvisor(cri, { timeoutMs }).catch(() => undefined);
    await pod?.[Symbol.asyncDispose]();
    return pod === undefined;
  }));
  assert.ok(outcomes.includes(true), "nobody gave up");
  // One that was ready just then is there all the same: kubelet would find and remove it.
  await pause(500);
  await cri.removeAllPods();
  await expectNothingLeft(bed, before);
});

test("pods that are stopped while a container of theirs is made leave nothing", async ({ bed, cri }) => {
  const before = await look(bed);
  await Promise.all([0, 60, 150].map(async (delayMs) => {
    await using pod = await runGvisor(cri);
    const container = await pod.createContainer({ image, command: [gvisorTarget.path("sleep")] });
    const starting = container.start().catch(() => undefined);
    await pause(delayMs);
    await pod.stop();
    await starting;
    // containerd may hear of the end a moment after it has stopped the pod.
    await waitFor("the container's end", async () => await container.state() !== "RUNNING");
  }));
  await expectNothingLeft(bed, before);
});

test("a container that is removed while execs in it are starting leaves nothing", async ({ bed, cri }) => {
  await using pod = await runGvisor(cri);
  await startSleep(pod, "other");
  const before = await look(bed);
  for (const delayMs of [0, 20, 60]) {
    const container = await startSleep(pod, "main");
    const execs = Array.from({ length: 4 }, () => container.exec(["/bin/sleep", "20"]));
    const outcomes = Promise.allSettled(execs);
    await pause(delayMs);
    await container.stop(0);
    await container.remove();
    for (const outcome of await outcomes) {
      if (outcome.status === "fulfilled") assert.notEqual(outcome.value.exitCode, 0);
    }
  }
  await expectNothingLeft(bed, before);
  await expectAlive(await startSleep(pod, "main"));
});

test("a sandbox that stands still can be stopped and removed", async ({ bed, cri }) => {
  const before = await look(bed);
  {
    await using pod = await runGvisor(cri);
    await startSleep(pod);
    const pid = await sandboxOf(pod);
    Deno.kill(pid, "SIGSTOP");
    await pod.stop();
    await pod.remove();
    await waitFor("the sandbox to be gone", async () => {
      return await Deno.readTextFile(`/proc/${pid}/cmdline`).then(
        (text) => text === "",
        () => true,
      );
    });
  }
  await expectNothingLeft(bed, before);
});
