/**
 * What every benchmark gets and gives, so that `main.ts` can run any of them.
 *
 * @module
 */

import type { Contender, Rounds } from "./interleave.ts";
import { interleave } from "./interleave.ts";
import type { Progress } from "./progress.ts";
import type { Measurement } from "./result.ts";

/** What a benchmark works with. */
export interface BenchContext {
  /** Aborted when the run is given up. */
  readonly signal: AbortSignal;
  /** Hears what is going on. */
  readonly progress: Progress;
  /** Rounds that the caller insists on; missing for as many as fit the time. */
  readonly runs?: number;
}

/** Measures one aspect, and leaves nothing behind. */
export type Benchmark = (context: BenchContext) => Promise<Measurement[]>;

/** Longer than any run; where the caller insists on a number of rounds, time does not count. */
const UNLIMITED_MS = 86_400_000;

/**
 * Takes samples of contenders in turn, as many as the caller wants.
 *
 * @param context What the benchmark was given.
 * @param contenders Who is compared.
 * @param rounds How many samples, where the caller leaves that open.
 */
export async function takeSamples<T>(
  context: BenchContext,
  contenders: readonly Contender<T>[],
  rounds: Rounds,
): Promise<Map<string, T[]>> {
  const { signal, progress, runs } = context;
  return await interleave({
    contenders,
    rounds: runs === undefined ? rounds : wantedRounds(runs, rounds),
    signal,
    onSample: (taken, total, name) => progress.step(taken, total, name),
  });
}

/**
 * How many of something a benchmark does, where it does so many that a quick look must do with less.
 *
 * @param context What the benchmark was given.
 * @param count How many otherwise.
 */
export function partOf({ runs }: BenchContext, count: number): number {
  return runs === undefined ? count : Math.max(1, Math.min(count, Math.ceil(count * runs / 100)));
}

/** As many rounds as the caller insists on; for a quick look the warm-up is short as well. */
function wantedRounds(runs: number, { warmUps }: Rounds): Rounds {
  return { count: runs, warmUps: Math.min(warmUps, runs), budgetMs: UNLIMITED_MS };
}
