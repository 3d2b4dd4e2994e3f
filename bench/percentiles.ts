/**
 * Percentiles of measured values.
 *
 * @module
 */

/** What is told of a series of measured values. */
export interface Summary {
  /** Half of the values are at most this. */
  readonly p50: number;
  /** Nine of ten values are at most this. */
  readonly p90: number;
  /** All but one in a hundred are at most this; the largest, where there are fewer than a hundred. */
  readonly p99: number;
  /** How many values there were. */
  readonly samples: number;
}

/**
 * A percentile by nearest rank: the smallest value that at least `percent` of all values do not
 * exceed. It is always a value that was measured, never one between two.
 *
 * @param sorted At least one value, ascending.
 * @param percent Above 0, at most 100.
 */
export function percentile(sorted: readonly number[], percent: number): number {
  const rank = Math.ceil(percent / 100 * sorted.length);
  const value = sorted[Math.max(rank, 1) - 1];
  if (value === undefined) throw new RangeError("cannot take a percentile of no values");
  return value;
}

/**
 * Sums a series up.
 *
 * @param values At least one value, in any order.
 */
export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  return {
    p50: percentile(sorted, 50),
    p90: percentile(sorted, 90),
    p99: percentile(sorted, 99),
    samples: sorted.length,
  };
}
