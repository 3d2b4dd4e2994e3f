/**
 * One thing after the other: state changes of one sandbox or container never overlap.
 *
 * @module
 */

import { SandboxError } from "./errors.ts";

/** Most operations that may wait in one queue; a caller beyond it is told to come back. */
const PENDING_MAX = 1024;

/** Runs asynchronous operations in the order they were given. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve();
  #pending = 0;

  /** How many operations run or wait. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Runs an operation after those before it, whatever became of them.
   *
   * @throws SandboxError `ResourceExhausted` when too many wait; else what the operation throws.
   */
  async run<T>(operation: () => Promise<T>): Promise<T> {
    if (this.#pending >= PENDING_MAX) {
      throw new SandboxError("ResourceExhausted", "too many operations wait for the same object");
    }
    return await this.runAlways(operation);
  }

  /**
   * Like {@link run}, also where too many wait: for what has happened already and cannot be turned
   * away. Only for what happens a bounded number of times.
   */
  async runAlways<T>(operation: () => Promise<T>): Promise<T> {
    this.#pending++;
    const result = this.#last.then(operation);
    this.#last = result.catch(() => undefined);
    try {
      return await result;
    } finally {
      this.#pending--;
    }
  }
}
