/**
 * How often something may happen: so many times at once, and so many per second for long.
 *
 * @module
 */

/** A bucket of permits that fills up with time. */
export class RateLimit {
  readonly #max: number;
  readonly #perSecond: number;
  #left: number;
  #at: number;

  /**
   * A full bucket.
   *
   * @param max Permits at once.
   * @param perSecond Permits that come back per second.
   * @param nowMs The time now.
   */
  constructor(max: number, perSecond: number, nowMs: number) {
    this.#max = max;
    this.#perSecond = perSecond;
    this.#left = max;
    this.#at = nowMs;
  }

  /**
   * Takes a permit.
   *
   * @param nowMs The time now.
   * @returns Whether there was one.
   */
  take(nowMs: number): boolean {
    const back = Math.max(0, nowMs - this.#at) * this.#perSecond / 1000;
    this.#left = Math.min(this.#max, this.#left + back);
    this.#at = nowMs;
    if (this.#left < 1) return false;
    this.#left--;
    return true;
  }
}
