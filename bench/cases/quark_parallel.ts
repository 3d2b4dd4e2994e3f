/**
 * How long a node takes to start several pods of gVisor at the same time, each with a container, and
 * to stop and remove them. The peers are runc on the same containerd, and runsc itself with as many
 * times the same two containers.
 *
 * @module
 */

import type { Cri } from "../../tests/support/cri.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import type { Measurement } from "../result.ts";
import { type PodContender, RUNC, runPods } from "../support/bench_bed.ts";
import { PlainRunsc } from "../support/plain_runsc.ts";
import {
  gvisorContender,
  PLAIN_RUNSC,
  quarkRounds,
  quarkRuncPeer,
  startQuarkBed,
} from "../support/quark_bed.ts";

/** The times of one round in milliseconds. */
interface RoundTimes {
  readonly startMs: number;
  /** What runsc itself is not measured for: the files of its pods are removed with their place. */
  readonly removeMs: number | undefined;
}

/** How many pods at the same time. */
const PODS = 20;

/**
 * Measures several pods at once.
 *
 * @param context See {@link BenchContext}; with a number of rounds, that many times two pods at most.
 */
export async function quarkParallel(context: BenchContext): Promise<Measurement[]> {
  const { runs } = context;
  const count = runs === undefined ? PODS : Math.min(PODS, 2 * runs);
  await using bed = await startQuarkBed();
  using cri = bed.cri();
  await using model = await cri.runPod({ handler: gvisorContender.handler });
  await model.startContainer(gvisorContender.container);
  const plain = await PlainRunsc.like(bed);
  const contenders = [
    ...[gvisorContender, quarkRuncPeer].map((contender) => ({
      name: contender.name,
      sample: () => oneRound(cri, contender, count),
    })),
    {
      name: PLAIN_RUNSC,
      sample: async (): Promise<RoundTimes> => ({
        startMs: await plain.startMany(count),
        removeMs: undefined,
      }),
    },
  ];
  const rounds = quarkRounds(context, { count: 5, budgetMs: 90_000 });
  const samples = await takeSamples(context, contenders, rounds);
  const removed = seriesOf(samples, ({ removeMs }) => removeMs ?? NaN);
  removed.delete(PLAIN_RUNSC);
  return [
    {
      name: `${count} gvisor pods: start`,
      unit: "ms",
      peer: PLAIN_RUNSC,
      series: seriesOf(samples, ({ startMs }) => startMs),
    },
    { name: `${count} gvisor pods: stop and remove`, unit: "ms", peer: RUNC, series: removed },
  ];
}

/** Starts all pods at the same time, then stops and removes all at the same time. */
async function oneRound(cri: Cri, contender: PodContender, count: number): Promise<RoundTimes> {
  const { pods, startMs } = await runPods(cri, contender, count);
  const begin = performance.now();
  await Promise.all(pods.map(({ pod }) => cri.removePod(pod.id)));
  return { startMs, removeMs: performance.now() - begin };
}
