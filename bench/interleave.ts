/**
 * Takes samples of several contenders in turn, so that whatever else the machine does meanwhile hits
 * all of them alike.
 *
 * @module
 */

/** One of those who are compared. */
export interface Contender<T> {
  /** The name in the result. */
  readonly name: string;
  /** Takes one sample and leaves nothing running behind. */
  sample(): Promise<T>;
}

/** How many samples to take. */
export interface Rounds {
  /** Rounds that count; each takes one sample of every contender. At least 1. */
  readonly count: number;
  /** Rounds before them that do not count. */
  readonly warmUps: number;
  /** No new round starts after this time, in milliseconds; the first that counts always does. */
  readonly budgetMs: number;
}

/** What {@link interleave} works with. */
export interface InterleaveOptions<T> {
  /** Who is compared. */
  readonly contenders: readonly Contender<T>[];
  /** How many samples to take. */
  readonly rounds: Rounds;
  /** Aborted when the run is given up: no further sample is taken. */
  readonly signal: AbortSignal;
  /** Hears which sample is taken next, out of how many at most. */
  readonly onSample?: (taken: number, total: number, name: string) => void;
  /** The present in milliseconds. Default: the monotonic clock. */
  readonly now?: () => number;
}

/**
 * Takes samples round by round. Each round begins with another contender, so that each follows every
 * other about as often: what one leaves for the kernel to tidy up is not always paid by the same.
 *
 * @param options See {@link InterleaveOptions}.
 * @returns The samples of each contender, one for each round that counted.
 * @throws What a sample throws, or the reason of the aborted signal.
 */
export async function interleave<T>(options: InterleaveOptions<T>): Promise<Map<string, T[]>> {
  const { contenders, rounds, signal, onSample, now = () => performance.now() } = options;
  const samples = new Map<string, T[]>(contenders.map(({ name }) => [name, []]));
  const total = (rounds.warmUps + rounds.count) * contenders.length;
  const end = now() + rounds.budgetMs;
  let taken = 0;
  for (let round = 0; round < rounds.warmUps + rounds.count; round++) {
    if (round > rounds.warmUps && now() >= end) break;
    for (const { name, sample } of rotated(contenders, round)) {
      onSample?.(taken++, total, name);
      signal.throwIfAborted();
      const value = await sample();
      if (round >= rounds.warmUps) samples.get(name)?.push(value);
    }
  }
  return samples;
}

/** The items from one place on, then those before it. */
function rotated<T>(items: readonly T[], by: number): T[] {
  const at = by % items.length;
  return [...items.slice(at), ...items.slice(0, at)];
}

/**
 * One number of each sample.
 *
 * @param samples The samples by contender.
 * @param pick Which number.
 */
export function seriesOf<T>(
  samples: ReadonlyMap<string, readonly T[]>,
  pick: (sample: T) => number,
): Map<string, number[]> {
  return new Map([...samples].map(([name, list]) => [name, list.map(pick)]));
}
