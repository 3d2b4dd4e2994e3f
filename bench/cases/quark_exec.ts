/**
 * How long an exec of `true` takes in a container of gVisor: through CRI, and by `runsc exec` in the
 * same container. runc through the same containerd is there to compare with.
 *
 * @module
 */

import type { Container, Cri } from "../../tests/support/cri.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import type { Goal, Measurement } from "../result.ts";
import type { PodContender } from "../support/bench_bed.ts";
import { PlainRunsc } from "../support/plain_runsc.ts";
import {
  gvisorContender,
  quarkRounds,
  quarkRuncPeer,
  startQuarkBed,
} from "../support/quark_bed.ts";

/** The name of runsc's own command in the results. */
const RUNSC_EXEC = "runsc exec";

const COMMAND = ["/bin/true"];

const GOALS: readonly Goal[] = [{ kind: "ratio", peer: RUNSC_EXEC, atMost: 1.2, written: "1.2" }];

/**
 * Measures execs.
 *
 * @param context See {@link BenchContext}.
 */
export async function quarkExec(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startQuarkBed();
  using cri = bed.cri();
  const ours = await startContainer(cri, gvisorContender);
  const plain = await PlainRunsc.like(bed);
  const theirs = await startContainer(cri, quarkRuncPeer);
  const contenders = [
    { name: gvisorContender.name, sample: () => timed(() => criExec(ours)) },
    { name: RUNSC_EXEC, sample: () => timed(() => plain.exec(COMMAND)) },
    { name: quarkRuncPeer.name, sample: () => timed(() => criExec(theirs)) },
  ];
  const rounds = quarkRounds(context, { count: 150, budgetMs: 45_000 });
  const samples = await takeSamples(context, contenders, rounds);
  await cri.removeAllPods();
  return [{
    name: "gvisor exec of true",
    unit: "ms",
    peer: RUNSC_EXEC,
    goals: GOALS,
    series: seriesOf(samples, (ms) => ms),
  }];
}

async function startContainer(
  cri: Cri,
  { handler, container }: PodContender,
): Promise<Container> {
  const pod = await cri.runPod({ handler });
  return await pod.startContainer(container);
}

async function criExec(container: Container): Promise<void> {
  const { exitCode } = await container.exec(COMMAND);
  if (exitCode !== 0) throw new Error(`an exec of true ended with ${exitCode}`);
}

async function timed(action: () => Promise<void>): Promise<number> {
  const begin = performance.now();
  await action();
  return performance.now() - begin;
}
