/**
 * Random numbers that are the same in every run, for tests that try many inputs.
 *
 * @module
 */

/**
 * Makes a generator of whole numbers (mulberry32).
 *
 * @param seed Where to begin; the same seed gives the same numbers.
 * @returns Gives a number from 0 up to, not including, its argument.
 */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
