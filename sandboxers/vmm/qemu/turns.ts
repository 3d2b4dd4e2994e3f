/**
 * One thing after the other, for changes of a machine that must not overlap.
 *
 * @module
 */

/** Runs effects one at a time, in the order in which they were asked for. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs an effect when those before it are done, whether they failed or not. */
  take<T>(effect: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(effect);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}
