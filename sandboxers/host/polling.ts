/**
 * Waiting for something that nobody tells of: looks again and again, soon at first and then less and
 * less often.
 *
 * @module
 */

const FIRST_MS = 1;
const PAUSE_MAX_MS = 32;

/** The pauses between looks at one thing. Disposing of it ends a pause, for good. */
export class Polling implements Disposable {
  #pauseMs = FIRST_MS;
  #wake: (() => void) | undefined;
  #over = false;

  /** Whether it was disposed of. */
  get over(): boolean {
    return this.#over;
  }

  /** Waits until the next look. */
  pause(): Promise<void> {
    if (this.#over) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    // What has been idle for long wakes together with others like it.
    const coarse = this.#pauseMs >= PAUSE_MAX_MS;
    const ms = coarse ? PAUSE_MAX_MS - performance.now() % PAUSE_MAX_MS : this.#pauseMs;
    const timer = setTimeout(resolve, ms);
    this.#wake = () => {
      clearTimeout(timer);
      resolve();
    };
    this.#pauseMs = Math.min(this.#pauseMs * 2, PAUSE_MAX_MS);
    return promise;
  }

  /** Something has happened: the next pause is short again. */
  reset(): void {
    this.#pauseMs = FIRST_MS;
  }

  /** Ends a pause: it is time to look. */
  wake(): void {
    this.reset();
    this.#wake?.();
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    this.#over = true;
    this.#wake?.();
  }
}
