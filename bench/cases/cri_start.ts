/**
 * How long kubelet waits for a pod with one container: RunPodSandbox, CreateContainer and
 * StartContainer on the host's network, one pod at a time. The sandboxer that does nothing shows what
 * containerd, the sockets and the lifecycle take by themselves.
 *
 * @module
 */

import type { Cri } from "../../tests/support/cri.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import type { Goal, Measurement } from "../result.ts";
import {
  NOOP,
  noopContender,
  type PodContender,
  RUNC,
  runcContender,
  startBenchBed,
  wasmContender,
} from "../support/bench_bed.ts";

/** The times of one start in milliseconds. */
interface StartTimes {
  readonly runPodMs: number;
  readonly createMs: number;
  readonly startMs: number;
}

const CONTENDERS = [wasmContender, runcContender, noopContender];

const GOALS: readonly Goal[] = [
  { kind: "ratio", peer: RUNC, atMost: 0.25, written: "0.25" },
  { kind: "ratio", peer: NOOP, atMost: 1.25, written: "1.25" },
];

/**
 * Measures the start of a pod with a container.
 *
 * @param context See {@link BenchContext}.
 */
export async function criStart(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startBenchBed(CONTENDERS);
  using cri = bed.cri();
  const contenders = CONTENDERS.map((contender) => ({
    name: contender.name,
    sample: () => startOnce(cri, contender),
  }));
  const rounds = { count: 100, warmUps: 3, budgetMs: 75_000 };
  const samples = await takeSamples(context, contenders, rounds);
  const part = (name: string, pick: (times: StartTimes) => number): Measurement => ({
    name,
    unit: "ms",
    peer: RUNC,
    series: seriesOf(samples, pick),
  });
  return [
    {
      ...part("CRI start", ({ runPodMs, createMs, startMs }) => runPodMs + createMs + startMs),
      goals: GOALS,
    },
    part("CRI start: RunPodSandbox", ({ runPodMs }) => runPodMs),
    part("CRI start: CreateContainer", ({ createMs }) => createMs),
    part("CRI start: StartContainer", ({ startMs }) => startMs),
  ];
}

/** Starts a pod with a container, and removes it again. Only the start is timed. */
async function startOnce(cri: Cri, contender: PodContender): Promise<StartTimes> {
  const prepared = await cri.preparePod({ handler: contender.handler });
  const begin = performance.now();
  await using pod = await cri.runPrepared(prepared);
  const running = performance.now();
  const container = await pod.createContainer(contender.container);
  const created = performance.now();
  await container.start();
  const started = performance.now();
  return { runPodMs: running - begin, createMs: created - running, startMs: started - created };
}
