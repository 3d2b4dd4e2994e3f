/**
 * How often pods and containers start, and how long that takes: worked out of a sandboxer's events,
 * over the last minutes.
 *
 * @module
 */

/** The middle and the slow end of some durations. */
export interface Quantiles {
  /** Half took no longer than this many milliseconds. */
  readonly p50Ms: number;
  /** All but one in a hundred took no longer than this many milliseconds. */
  readonly p99Ms: number;
}

/** How far back durations count, in milliseconds. */
export const LATENCY_WINDOW_MS = 300_000;
/** How far back starts count for the rate, in milliseconds. */
const RATE_WINDOW_MS = 10_000;
/** How many starts are remembered. */
const STARTS_MAX = 2_000;
/** How many of those that have begun and not ended are remembered. */
const BEGUN_MAX = 4_000;

/** The starts of one sort of thing. All times are in milliseconds since the epoch. */
export class Starts {
  readonly #begunAt = new Map<string, number>();
  #ended: { readonly atMs: number; readonly tookMs: number | undefined }[] = [];

  /**
   * A start has begun.
   *
   * @param id What starts.
   * @param atMs When.
   */
  begin(id: string, atMs: number): void {
    this.#begunAt.set(id, atMs);
    if (this.#begunAt.size <= BEGUN_MAX) return;
    const [oldest] = this.#begunAt.keys();
    if (oldest !== undefined) this.#begunAt.delete(oldest);
  }

  /** It has ended well; counts towards the rate even if its begin was not heard of. */
  end(id: string, atMs: number): void {
    const begunAt = this.#begunAt.get(id);
    this.#begunAt.delete(id);
    const tookMs = begunAt === undefined ? undefined : Math.max(0, atMs - begunAt);
    this.#ended.push({ atMs, tookMs });
    if (this.#ended.length > STARTS_MAX) this.#ended.splice(0, this.#ended.length - STARTS_MAX);
  }

  /** What starts is gone. */
  forget(id: string): void {
    this.#begunAt.delete(id);
  }

  /** Forgets everything. */
  clear(): void {
    this.#begunAt.clear();
    this.#ended = [];
  }

  /** Starts per second, over the last ten seconds. */
  perSecond(nowMs: number): number {
    const recent = this.#ended.filter(({ atMs }) => atMs > nowMs - RATE_WINDOW_MS);
    return recent.length * 1000 / RATE_WINDOW_MS;
  }

  /** How long starts of the last five minutes took; undefined where there were none. */
  quantiles(nowMs: number): Quantiles | undefined {
    const durations = this.#ended
      .filter(({ atMs }) => atMs > nowMs - LATENCY_WINDOW_MS)
      .map(({ tookMs }) => tookMs)
      .filter((tookMs) => tookMs !== undefined)
      .sort((a, b) => a - b);
    const [p50Ms, p99Ms] = [quantile(durations, 0.5), quantile(durations, 0.99)];
    return p50Ms === undefined || p99Ms === undefined ? undefined : { p50Ms, p99Ms };
  }
}

/** The value that so large a part does not exceed, of values in order. */
function quantile(sorted: readonly number[], part: number): number | undefined {
  return sorted[Math.max(0, Math.ceil(sorted.length * part) - 1)];
}
