/**
 * How many guests an engine has, and the most that it may have.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** Counts the guests of one engine. */
export class GuestCount {
  #count = 0;

  /**
   * Counts none yet.
   *
   * @param max Most guests at a time.
   */
  constructor(readonly max: number) {}

  /** Guests that exist, running or not. */
  get count(): number {
    return this.#count;
  }

  /**
   * Counts one more.
   *
   * @throws {SandboxError} `ResourceExhausted` when there are as many as there may be.
   */
  take(): void {
    if (this.#count >= this.max) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot make one more wasm guest: this sandboxer has ${this.#count}, the most it may have`,
      );
    }
    this.#count++;
  }

  /** Counts one less: it is gone, or could not be made. */
  give(): void {
    this.#count--;
  }
}
