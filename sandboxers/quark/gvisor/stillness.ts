/**
 * Keeps work on a pod and what needs it to stand still apart: work goes on side by side, and all of it
 * waits while something is done to the pod as a whole, such as saving it.
 *
 * @module
 */

/** See the module. */
export class Stillness {
  readonly #working = new Set<Promise<unknown>>();
  #still: Promise<void> = Promise.resolve();

  /**
   * Does some of the work, once the pod need not stand still.
   *
   * @param work What to do; it must not call this again.
   * @returns What it gives.
   */
  async work<T>(work: () => Promise<T>): Promise<T> {
    const working = this.#still.then(work);
    this.#working.add(working);
    try {
      return await working;
    } finally {
      this.#working.delete(working);
    }
  }

  /**
   * Does something once the work that is under way is done, and while no other is.
   *
   * @param act What to do.
   * @returns What it gives.
   */
  async whileStill<T>(act: () => Promise<T>): Promise<T> {
    const working = [...this.#working];
    const done = this.#still.then(async () => {
      await Promise.allSettled(working);
      return await act();
    });
    this.#still = done.then(() => undefined, () => undefined);
    return await done;
  }
}
