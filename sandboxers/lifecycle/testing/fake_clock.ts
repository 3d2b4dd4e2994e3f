/**
 * A clock that only moves when told to.
 *
 * @module
 */

import type { Clock } from "../core.ts";

/** A clock for tests. */
export class FakeClock implements Clock {
  #now: number;

  /**
   * A clock that stands still.
   *
   * @param start Milliseconds since the epoch.
   */
  constructor(start = 1_700_000_000_000) {
    this.#now = start;
  }

  /** Milliseconds since the epoch. */
  now(): number {
    return this.#now;
  }

  /** Moves the clock on. */
  advance(ms: number): void {
    this.#now += ms;
  }
}
