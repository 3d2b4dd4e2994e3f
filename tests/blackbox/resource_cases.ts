/**
 * Cases about limits, and about standing still: what a container may take, what happens when it wants
 * more, new limits while it runs, pause and resume.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { RegisterBedTest } from "../support/bed_tests.ts";
import { type Container, runtime } from "../support/cri.ts";
import { waitFor } from "../support/wait.ts";
import type { Target } from "./target.ts";

const MIB = 1n << 20n;

/** How long CPU time is watched, in milliseconds. */
const WATCH_MS = 1_500;

/**
 * How long a container may take to be killed for want of memory, in milliseconds: before that a
 * kernel takes away the pages of its program again and again, each of which an emulated one decodes.
 */
const MEMORY_MS = 90_000;

/** Registers the cases. */
export function resourceCases(target: Target, test: RegisterBedTest): void {
  const { handler, image, path, abilities } = target;
  const spin = { image, command: [path("spin")] };

  test("a container that wants more memory than its limit does not get it", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const { exitCode, reason, stdout } = await pod.runContainer({
      image,
      command: [path("memory")],
      args: ["256"],
      resources: { memoryLimitInBytes: 64n * MIB },
    }, MEMORY_MS);
    if (abilities.memoryLimit === "kills") {
      assert.notEqual(exitCode, 0);
      assert.equal(reason, "OOMKilled");
    } else {
      assert.equal(exitCode, 0);
      const taken = Number(/^took (\d+) MiB$/.exec(stdout[0] ?? "")?.[1]);
      assert.ok(taken > 32 && taken <= 64, stdout.join("; "));
    }
  });

  test("a container keeps to the share of a CPU that it has", async ({ cri }) => {
    await using pod = await cri.runPod({ handler });
    const resources = { cpuQuota: 20_000n, cpuPeriod: 100_000n };
    const container = await pod.startContainer({ ...spin, resources });
    await container.printed("spinning");
    assert.ok(await usedShare(container) < 0.5, "it gets no more than 20 % and some room");
  });

  if (abilities.update) {
    test("a container keeps to new limits that it gets while it runs", async ({ cri }) => {
      await using pod = await cri.runPod({ handler });
      const container = await pod.startContainer(spin);
      await container.printed("spinning");
      await cri.client.call(runtime.updateContainerResources, {
        containerId: container.id,
        linux: { cpuQuota: 20_000n, cpuPeriod: 100_000n },
      });
      assert.ok(await usedShare(container) < 0.5, "it gets no more than 20 % and some room");
      assert.equal(await container.state(), "RUNNING");
    });
  }

  if (abilities.pause) pauseCases(target, test);
}

/** Cases about standing still. CRI has no call for it; containerd's own client has. */
function pauseCases({ handler, image, path }: Target, test: RegisterBedTest): void {
  const spin = { image, command: [path("spin")] };

  test("a paused container stands still, and goes on when it is resumed", async ({ bed, cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer(spin);
    await container.printed("spinning");
    await bed.containerd.ctr("tasks", "pause", container.id);
    assert.match(await bed.containerd.ctr("tasks", "ls"), statusLine(container, "PAUSED"));
    const paused = await cpuNs(container);
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    assert.equal(await cpuNs(container), paused);
    await bed.containerd.ctr("tasks", "resume", container.id);
    assert.match(await bed.containerd.ctr("tasks", "ls"), statusLine(container, "RUNNING"));
    await waitFor("CPU time to grow", async () => await cpuNs(container) > paused + 50_000_000n);
  });

  test("a paused container can be stopped and removed", async ({ bed, cri }) => {
    await using pod = await cri.runPod({ handler });
    const container = await pod.startContainer(spin);
    await container.printed("spinning");
    await bed.containerd.ctr("tasks", "pause", container.id);
    await pod.stop();
    await pod.remove();
    assert.deepEqual(await cri.containerIds(pod.id), []);
  });
}

/** The line of `ctr tasks ls` about a container. */
function statusLine({ id }: Container, status: string): RegExp {
  return new RegExp(`^${id}\\s+\\d+\\s+${status}\\s*$`, "m");
}

/** The CPU time that a container has used, in nanoseconds. */
async function cpuNs(container: Container): Promise<bigint> {
  return (await container.stats()).cpu?.usageCoreNanoSeconds?.value ?? 0n;
}

/** The part of a CPU that a container gets, watched for a while. */
async function usedShare(container: Container): Promise<number> {
  const before = { cpuNs: await cpuNs(container), at: performance.now() };
  await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
  const usedMs = Number(await cpuNs(container) - before.cpuNs) / 1e6;
  return usedMs / (performance.now() - before.at);
}
