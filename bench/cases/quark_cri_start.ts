/**
 * How long kubelet waits for a pod of gVisor with one container: RunPodSandbox, CreateContainer and
 * StartContainer on the host's network, one pod at a time. The peers are runsc itself with the same
 * two containers, which shows what containerd and we add, and runc on the same containerd.
 *
 * @module
 */

import type { Cri } from "../../tests/support/cri.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import type { Goal, Measurement } from "../result.ts";
import type { PodContender } from "../support/bench_bed.ts";
import { PlainRunsc } from "../support/plain_runsc.ts";
import {
  gvisorContender,
  PLAIN_RUNSC,
  quarkRounds,
  quarkRuncPeer,
  startQuarkBed,
} from "../support/quark_bed.ts";

/** The times of one start in milliseconds. */
interface StartTimes {
  readonly runPodMs: number;
  readonly createMs: number;
  readonly startMs: number;
}

const GOALS: readonly Goal[] = [
  { kind: "ratio", peer: PLAIN_RUNSC, atMost: 1.15, written: "1.15" },
];

/**
 * Measures the start of a pod with a container.
 *
 * @param context See {@link BenchContext}.
 */
export async function quarkCriStart(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startQuarkBed();
  using cri = bed.cri();
  await using model = await cri.runPod({ handler: gvisorContender.handler });
  await model.startContainer(gvisorContender.container);
  const plain = await PlainRunsc.like(bed);
  const contenders = [
    ...[gvisorContender, quarkRuncPeer].map((contender) => ({
      name: contender.name,
      sample: () => startOnce(cri, contender),
    })),
    {
      name: PLAIN_RUNSC,
      sample: async (): Promise<StartTimes> => {
        const { sandboxMs, createMs, startMs } = await plain.start();
        return { runPodMs: sandboxMs, createMs, startMs };
      },
    },
  ];
  const rounds = quarkRounds(context, { count: 60, budgetMs: 90_000 });
  const samples = await takeSamples(context, contenders, rounds);
  const part = (name: string, pick: (times: StartTimes) => number): Measurement => ({
    name,
    unit: "ms",
    peer: PLAIN_RUNSC,
    series: seriesOf(samples, pick),
  });
  return [
    {
      ...part(
        "gvisor CRI start",
        ({ runPodMs, createMs, startMs }) => runPodMs + createMs + startMs,
      ),
      goals: GOALS,
    },
    part("gvisor CRI start: RunPodSandbox", ({ runPodMs }) => runPodMs),
    part("gvisor CRI start: CreateContainer", ({ createMs }) => createMs),
    part("gvisor CRI start: StartContainer", ({ startMs }) => startMs),
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
