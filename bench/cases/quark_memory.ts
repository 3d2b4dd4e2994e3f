/**
 * What pods of gVisor cost in memory: what runsc runs for each (the sandbox with its stubs, the
 * gofers), and apart from that our sandboxer with its helpers, without pods and for each pod. The
 * peer is the shim that runc needs for each pod. Read once per run: all wait in idleness meanwhile.
 * For what a pod takes, the sandboxer's heap is tidied up before: what it has not thrown away yet is
 * many times as much.
 *
 * @module
 */

import type { Bed } from "../../tests/support/bed.ts";
import type { Cri, Pod } from "../../tests/support/cri.ts";
import { runscProcesses } from "../../tests/support/runsc_processes.ts";
import { freePort } from "../../tests/support/http.ts";
import { shimPids } from "../../tests/support/shims.ts";
import type { BenchContext } from "../benchmark.ts";
import { type Goal, type Measurement, OURS, type Unit } from "../result.ts";
import { type PodContender, RUNC } from "../support/bench_bed.ts";
import { collectGarbage } from "../support/collect_garbage.ts";
import { loneProcessMemory, totalPssMiB } from "../support/process_memory.ts";
import { gvisorContender, quarkRuncPeer, startQuarkBed } from "../support/quark_bed.ts";
import { sandboxerHelpers } from "../support/vmm_processes.ts";

/** How many pods. */
const PODS = 20;
/** How many pods are started at a time: what a burst takes for a moment is not what pods cost. */
const AT_ONCE = 2;
/** How often memory is read, and how long to wait before each reading, in milliseconds. */
const READINGS = { count: 3, intervalMs: 1_000 };

const GOALS = { sandboxerMiB: 70, podKiB: 60 } as const;

/** What was read once while pods run, in MiB; what runsc runs is that of one pod. */
interface Reading {
  readonly sandboxer: number;
  readonly sandbox: number;
  readonly gofers: number;
}

/**
 * Measures memory.
 *
 * @param context See {@link BenchContext}; with a number of rounds, that many times two pods at most.
 */
export async function quarkMemory(context: BenchContext): Promise<Measurement[]> {
  const { runs } = context;
  const count = runs === undefined ? PODS : Math.min(PODS, 2 * runs);
  const none = await withoutPods(context);
  const port = freePort();
  await using bed = await startQuarkBed({ denoFlags: [`--inspect=127.0.0.1:${port}`] });
  using cri = bed.cri();
  const tidy = () => collectGarbage(port);
  // What a first pod leaves in the sandboxer is not a pod's: code that was compiled, a larger heap.
  await withPods(cri, gvisorContender, count, startContainers);
  await tidy();
  const after = await readings(context, "sandboxer after its first pods", () => sandboxerMiB(bed));
  const [empty, busy] = await withPods(cri, gvisorContender, count, async (pods) => {
    await tidy();
    const idle = await readings(context, "pods without containers", () => read(bed, count));
    await startContainers(pods);
    await tidy();
    const all = await readings(context, "pods with a container", () => read(bed, count));
    return [idle, all] as const;
  });
  const shims = await withPods(cri, quarkRuncPeer, count, async (pods) => {
    await startContainers(pods);
    return await readings(context, "shims of runc pods", () => shimMiB(bed, count));
  });
  const base = Math.min(...after);
  const perPod = (all: readonly Reading[]) =>
    all.map(({ sandboxer }) => (sandboxer - base) * 1024 / count);
  const pods = `${count} pods with a container`;
  return [
    measurement("gvisor memory, no pods: sandboxer", none, { goals: atMost(GOALS.sandboxerMiB) }),
    measurement(`gvisor memory, ${pods}: sandboxer, tidied up`, [
      ...busy.map(({ sandboxer }) => sandboxer),
    ]),
    measurement("gvisor memory, for each pod with a container: sandboxer", perPod(busy), {
      unit: "KiB",
      goals: atMost(GOALS.podKiB),
      peer: shims.map((one) => one * 1024),
    }),
    measurement("gvisor memory, for each pod without containers: sandboxer", perPod(empty), {
      unit: "KiB",
    }),
    measurement("gvisor memory, pod without containers: runsc's sandbox", [
      ...empty.map(({ sandbox }) => sandbox),
    ]),
    measurement("gvisor memory, pod without containers: runsc's gofer", [
      ...empty.map(({ gofers }) => gofers),
    ]),
    measurement("gvisor memory, pod with a container: runsc's sandbox", [
      ...busy.map(({ sandbox }) => sandbox),
    ]),
    measurement("gvisor memory, pod with a container: runsc's gofers", [
      ...busy.map(({ gofers }) => gofers),
    ]),
  ];
}

/** A sandboxer that has run no pod yet. */
async function withoutPods(context: BenchContext): Promise<number[]> {
  await using bed = await startQuarkBed();
  return await readings(context, "sandboxer without pods", () => sandboxerMiB(bed));
}

/** Reads several times, each time after a pause. */
async function readings<T>(
  { signal, progress }: BenchContext,
  what: string,
  read: () => Promise<T>,
): Promise<T[]> {
  const values: T[] = [];
  for (let index = 0; index < READINGS.count; index++) {
    signal.throwIfAborted();
    progress.step(index, READINGS.count, what);
    await new Promise((resolve) => setTimeout(resolve, READINGS.intervalMs));
    values.push(await read());
  }
  return values;
}

/** The sandboxer and everything of ours beside it. */
async function sandboxerMiB(bed: Bed): Promise<number> {
  const { pid } = bed.sandboxer("quark").process;
  const own = await loneProcessMemory(pid);
  const helpers = await sandboxerHelpers(pid);
  if (helpers.length === 0) throw new Error("found no helper of the sandboxer, expected 1 or more");
  return own.pssMiB + await totalPssMiB(helpers);
}

/** Reads everything while pods run. */
async function read(bed: Bed, count: number): Promise<Reading> {
  const { sandboxes, gofers } = await runscProcesses(bed.directory);
  if (sandboxes.length !== count) {
    throw new Error(`found ${sandboxes.length} sandboxes of runsc, expected ${count}`);
  }
  const sandboxPids = sandboxes.flatMap(({ pid, stubs }) => [pid, ...stubs]);
  return {
    sandboxer: await sandboxerMiB(bed),
    sandbox: await totalPssMiB(sandboxPids) / count,
    gofers: await totalPssMiB(gofers) / count,
  };
}

/** The shim of one runc pod. */
async function shimMiB(bed: Bed, count: number): Promise<number> {
  const pids = await shimPids(bed.containerd.socketPath);
  if (pids.length !== count) throw new Error(`found ${pids.length} shims, expected ${count}`);
  return await totalPssMiB(pids) / count;
}

/** Does something while pods run, which have no container yet. */
async function withPods<T>(
  cri: Cri,
  { handler }: PodContender,
  count: number,
  action: (pods: readonly Pod[]) => Promise<T>,
): Promise<T> {
  try {
    const pods: Pod[] = [];
    while (pods.length < count) {
      const next = Array.from({ length: Math.min(AT_ONCE, count - pods.length) });
      pods.push(...await Promise.all(next.map(() => cri.runPod({ handler }))));
    }
    return await action(pods);
  } finally {
    await cri.removeAllPods();
  }
}

async function startContainers(pods: readonly Pod[]): Promise<void> {
  const { container } = gvisorContender;
  for (let index = 0; index < pods.length; index += AT_ONCE) {
    const next = pods.slice(index, index + AT_ONCE);
    await Promise.all(next.map((pod) => pod.startContainer(container)));
  }
}

function atMost(value: number): readonly Goal[] {
  return [{ kind: "value", atMost: value }];
}

function measurement(
  name: string,
  values: readonly number[],
  { unit = "MiB", goals = [], peer }: {
    readonly unit?: Unit;
    readonly goals?: readonly Goal[];
    readonly peer?: readonly number[];
  } = {},
): Measurement {
  if (peer === undefined) return { name, unit, goals, series: new Map([[OURS, values]]) };
  return { name, unit, goals, peer: RUNC, series: new Map([[OURS, values], [RUNC, peer]]) };
}
