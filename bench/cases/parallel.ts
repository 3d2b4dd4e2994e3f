/**
 * How long a node takes to start many pods at the same time, and to stop and remove them.
 *
 * @module
 */

import type { Cri } from "../../tests/support/cri.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import type { Goal, Measurement } from "../result.ts";
import {
  noopContender,
  type PodContender,
  RUNC,
  runcContender,
  runPods,
  startBenchBed,
  wasmContender,
} from "../support/bench_bed.ts";

/** The times of one round in milliseconds. */
interface RoundTimes {
  readonly startMs: number;
  readonly removeMs: number;
}

/** How many pods at the same time. */
const PODS = 50;

const CONTENDERS = [wasmContender, runcContender, noopContender];

const GOALS: readonly Goal[] = [{ kind: "ratio", peer: RUNC, atMost: 0.25, written: "0.25" }];

/**
 * Measures many pods at once.
 *
 * @param context See {@link BenchContext}.
 */
export async function parallel(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startBenchBed(CONTENDERS);
  using cri = bed.cri();
  const contenders = CONTENDERS.map((contender) => ({
    name: contender.name,
    sample: () => oneRound(cri, contender),
  }));
  const rounds = { count: 5, warmUps: 1, budgetMs: 75_000 };
  const samples = await takeSamples(context, contenders, rounds);
  const measurement = { unit: "ms", peer: RUNC, goals: GOALS } as const;
  return [
    {
      ...measurement,
      name: `${PODS} pods: start`,
      series: seriesOf(samples, ({ startMs }) => startMs),
    },
    {
      ...measurement,
      name: `${PODS} pods: stop and remove`,
      series: seriesOf(samples, ({ removeMs }) => removeMs),
    },
  ];
}

/** Starts all pods at the same time, then stops and removes all at the same time. */
async function oneRound(cri: Cri, contender: PodContender): Promise<RoundTimes> {
  const { pods, startMs } = await runPods(cri, contender, PODS);
  const begin = performance.now();
  await Promise.all(pods.map(({ pod }) => cri.removePod(pod.id)));
  return { startMs, removeMs: performance.now() - begin };
}
