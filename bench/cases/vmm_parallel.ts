/**
 * How long a node takes to start several microVM pods at the same time, each with a container and a
 * network of its own, and to stop and remove them. Each is cloned; none is ready before.
 *
 * @module
 */

import type { Cri } from "../../tests/support/cri.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import type { Measurement } from "../result.ts";
import { type PodContender, RUNC, runPods } from "../support/bench_bed.ts";
import { podCri, runcPeer, slowRounds, startVmmBed, vmmContender } from "../support/vmm_bed.ts";

/** The times of one round in milliseconds. */
interface RoundTimes {
  readonly startMs: number;
  readonly removeMs: number;
}

/** How many pods at the same time. */
const PODS = 10;

/**
 * Measures several pods at once.
 *
 * @param context See {@link BenchContext}; with a number of rounds, that many times two pods at most.
 */
export async function vmmParallel(context: BenchContext): Promise<Measurement[]> {
  const { runs } = context;
  const count = runs === undefined ? PODS : Math.min(PODS, 2 * runs);
  await using bed = await startVmmBed({ runc: true });
  using cri = podCri(bed);
  const contenders = [vmmContender, runcPeer].map((contender) => ({
    name: contender.name,
    sample: () => oneRound(cri, contender, count),
  }));
  const rounds = slowRounds(context, { count: 5, budgetMs: 45_000 });
  const samples = await takeSamples(context, contenders, rounds);
  const measurement = { unit: "ms", peer: RUNC } as const;
  return [
    {
      ...measurement,
      name: `${count} vmm pods: start`,
      series: seriesOf(samples, ({ startMs }) => startMs),
    },
    {
      ...measurement,
      name: `${count} vmm pods: stop and remove`,
      series: seriesOf(samples, ({ removeMs }) => removeMs),
    },
  ];
}

/** Starts all pods at the same time, then stops and removes all at the same time. */
async function oneRound(cri: Cri, contender: PodContender, count: number): Promise<RoundTimes> {
  const { pods, startMs } = await runPods(cri, contender, count);
  const begin = performance.now();
  await Promise.all(pods.map(({ pod }) => cri.removePod(pod.id)));
  return { startMs, removeMs: performance.now() - begin };
}
