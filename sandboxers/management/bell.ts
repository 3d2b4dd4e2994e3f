/**
 * Wakes those who wait for something to happen: all at once, a little later, so that many things in a
 * row wake them once and none of them holds up what has made the thing happen.
 *
 * @module
 */

import { abortError } from "../lifecycle/errors.ts";

/** A bell that many can wait for. */
export class Bell {
  readonly #delayMs: number;
  readonly #waiting = new Set<() => void>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * A silent bell.
   *
   * @param delayMs How long after {@link Bell.ring} it is heard, in milliseconds.
   */
  constructor(delayMs: number) {
    this.#delayMs = delayMs;
  }

  /** How many wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Wakes those who wait; costs nothing where nobody does. */
  ring(): void {
    if (this.#waiting.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      for (const wake of waiting) wake();
    }, this.#delayMs);
  }

  /**
   * Waits for the next ring.
   *
   * @param signal Gives up.
   * @throws {SandboxError} The reason of the signal.
   */
  async rung(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#waiting.add(wake);
    signal.addEventListener("abort", wake, { once: true });
    if (!signal.aborted) await promise;
    signal.removeEventListener("abort", wake);
    this.#waiting.delete(wake);
    if (this.#waiting.size === 0) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
    if (signal.aborted) throw abortError(signal, "cannot wait any longer");
  }
}
