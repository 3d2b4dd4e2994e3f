/**
 * How much a guest that computes for ever slows its neighbours down: an exec in a pod of its own,
 * through CRI, while nobody computes, while one guest of another pod does, and while as many do as
 * there are processors.
 *
 * @module
 */

import type { Container, Cri } from "../../tests/support/cri.ts";
import type { BenchContext } from "../benchmark.ts";
import { type Goal, type Measurement, OURS } from "../result.ts";
import { startBenchBed, wasmContender } from "../support/bench_bed.ts";

/** The name of the exec that has the machine for itself, in the results. */
const IDLE = "idle";

const GOALS: readonly Goal[] = [{ kind: "ratio", peer: IDLE, atMost: 2, written: "2" }];

/** How often an exec is measured in one go. */
const EXECS_IN_A_ROW = 15;

/** How many rounds, and how long at most, in milliseconds. */
const ROUNDS = { count: 6, budgetMs: 25_000 };

/** How long spinning guests get to become compiled and to be noticed, in milliseconds. */
const SPIN_MS = 500;

/**
 * Measures exec beside spinning guests.
 *
 * @param context See {@link BenchContext}.
 */
export async function neighbour(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startBenchBed([wasmContender]);
  using cri = bed.cri();
  const { handler, container } = wasmContender;
  await using pod = await cri.runPod({ handler });
  const sleeping = await pod.startContainer(container);
  await sleeping.printed("sleeping");
  const many = navigator.hardwareConcurrency;
  const times = new Map<number, number[]>([[0, []], [1, []], [many, []]]);
  const rounds = context.runs ?? ROUNDS.count;
  const end = performance.now() + ROUNDS.budgetMs;
  await execs(sleeping);
  for (let round = 0; round < rounds; round++) {
    if (round > 0 && context.runs === undefined && performance.now() > end) break;
    for (const [spinners, values] of times) {
      context.signal.throwIfAborted();
      context.progress.step(round, rounds, `${spinners} spinning guests`);
      values.push(...await besideSpinners(cri, spinners, () => execs(sleeping)));
    }
  }
  const idle = times.get(0) ?? [];
  const beside = (spinners: number, name: string): Measurement => ({
    name,
    unit: "ms",
    peer: IDLE,
    series: new Map([[OURS, times.get(spinners) ?? []], [IDLE, idle]]),
    goals: GOALS,
  });
  return [
    beside(1, "exec beside a spinning guest"),
    ...many === 1 ? [] : [beside(many, `exec beside ${many} spinning guests`)],
  ];
}

/** Does something while guests of a pod of their own compute. */
async function besideSpinners<T>(
  cri: Cri,
  count: number,
  action: () => Promise<T>,
): Promise<T> {
  await using pod = await cri.runPod({ handler: wasmContender.handler });
  for (let index = 0; index < count; index++) {
    const spinner = await pod.startContainer({
      ...wasmContender.container,
      name: `spin-${index}`,
      command: ["/spin.wasm"],
    });
    await spinner.printed("spinning");
  }
  await new Promise((resolve) => setTimeout(resolve, SPIN_MS));
  return await action();
}

/** The times of some execs. */
async function execs(container: Container): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < EXECS_IN_A_ROW; index++) {
    const begin = performance.now();
    const { exitCode } = await container.exec(["/hello.wasm"]);
    times.push(performance.now() - begin);
    if (exitCode !== 0) throw new Error(`an exec ended with status ${exitCode}`);
  }
  return times;
}
