/**
 * How long kubelet waits for a pod with one container that is a microVM: RunPodSandbox,
 * CreateContainer and StartContainer with a network by CNI, one pod at a time. From the pool, as a
 * clone of the template, and booted; the peer is runc on the same containerd.
 *
 * @module
 */

import type { Cri } from "../../tests/support/cri.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import type { Goal, Measurement } from "../result.ts";
import { type PodContender, RUNC } from "../support/bench_bed.ts";
import {
  podCri,
  poolFull,
  runcPeer,
  slowRounds,
  startVmmBed,
  vmmContender,
} from "../support/vmm_bed.ts";

/** The times of one start in milliseconds. */
interface StartTimes {
  readonly runPodMs: number;
  readonly createMs: number;
  readonly startMs: number;
}

/** Machines that the sandboxer with a pool keeps. */
const POOL = 1;

const BOOT = "ours, booted";
const cloneContender: PodContender = { ...vmmContender, name: "ours, cloned" };
const bootContender: PodContender = {
  ...vmmContender,
  name: BOOT,
  annotations: { "quasaur.dev/template": "off" },
};

const GOALS: readonly Goal[] = [
  { kind: "ratio", peer: BOOT, atMost: 0.5, written: "0.5" },
  { kind: "value", atMost: 700 },
];

/**
 * Measures the start of a pod with a container.
 *
 * @param context See {@link BenchContext}.
 */
export async function vmmCriStart(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startVmmBed({ pool: POOL, runc: true });
  // A sandboxer has a pool or none.
  await using plainBed = await startVmmBed({
    config: `[limits]\nannotations = ["template"]\n`,
  });
  using cri = podCri(bed);
  using plainCri = podCri(plainBed);
  const contender = (of: Cri, one: PodContender) => ({
    name: one.name,
    sample: async () => {
      await poolFull(bed, POOL);
      return await startOnce(of, one);
    },
  });
  const contenders = [
    contender(cri, vmmContender),
    contender(plainCri, cloneContender),
    contender(plainCri, bootContender),
    contender(cri, runcPeer),
  ];
  const rounds = slowRounds(context, { count: 30, budgetMs: 60_000 });
  const samples = await takeSamples(context, contenders, rounds);
  const part = (name: string, pick: (times: StartTimes) => number): Measurement => ({
    name,
    unit: "ms",
    peer: RUNC,
    series: seriesOf(samples, pick),
  });
  return [
    {
      ...part("vmm CRI start", ({ runPodMs, createMs, startMs }) => runPodMs + createMs + startMs),
      goals: GOALS,
    },
    part("vmm CRI start: RunPodSandbox", ({ runPodMs }) => runPodMs),
    part("vmm CRI start: CreateContainer", ({ createMs }) => createMs),
    part("vmm CRI start: StartContainer", ({ startMs }) => startMs),
  ];
}

/** Starts a pod with a container, and removes it again. Only the start is timed. */
async function startOnce(cri: Cri, contender: PodContender): Promise<StartTimes> {
  const { handler, annotations = {}, container: options } = contender;
  const prepared = await cri.preparePod({ handler, annotations });
  const begin = performance.now();
  await using pod = await cri.runPrepared(prepared);
  const running = performance.now();
  const container = await pod.createContainer(options);
  const created = performance.now();
  await container.start();
  const started = performance.now();
  return { runPodMs: running - begin, createMs: created - running, startMs: started - created };
}
