/**
 * Waiting for something that happens once. A set of waiters instead of a promise that everybody
 * chains on: a waiter that gives up leaves nothing behind.
 *
 * @module
 */

import { abortError, SandboxError } from "./errors.ts";

/** Most that may wait for one thing; containerd needs a handful. */
const WAITING_MAX = 10_000;

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: SandboxError): void;
}

/** Those who wait for one value. */
export class Waiters<T> {
  #outcome: { readonly value: T } | { readonly error: SandboxError } | undefined;
  readonly #waiting = new Set<Waiter<T>>();

  /** How many wait now. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Gives the value to all who wait and will wait. Only the first value counts. */
  settle(value: T): void {
    if (this.#outcome !== undefined && "value" in this.#outcome) return;
    this.#outcome = { value };
    for (const waiter of this.#waiting) waiter.resolve(value);
    this.#waiting.clear();
  }

  /** Turns away all who wait and, until there is a value, all who will wait. */
  fail(error: SandboxError): void {
    if (this.#outcome !== undefined) return;
    this.#outcome = { error };
    for (const waiter of this.#waiting) waiter.reject(error);
    this.#waiting.clear();
  }

  /**
   * Waits for the value.
   *
   * @param action What is waited for, for the message of an abort.
   * @param signal Ends the wait early.
   * @throws SandboxError `Cancelled` or `DeadlineExceeded` on abort, `ResourceExhausted` when too
   *   many wait, or what {@link fail} was given.
   */
  wait(action: string, signal?: AbortSignal): Promise<T> {
    if (this.#outcome !== undefined) {
      return "value" in this.#outcome
        ? Promise.resolve(this.#outcome.value)
        : Promise.reject(this.#outcome.error);
    }
    if (signal?.aborted === true) return Promise.reject(abortError(signal, action));
    if (this.#waiting.size >= WAITING_MAX) {
      return Promise.reject(
        new SandboxError(
          "ResourceExhausted",
          `cannot ${action}: ${WAITING_MAX} wait for it already`,
        ),
      );
    }
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const leave = (): void => {
      this.#waiting.delete(waiter);
      signal?.removeEventListener("abort", onAbort);
    };
    const waiter: Waiter<T> = {
      resolve: (value) => {
        leave();
        resolve(value);
      },
      reject: (error) => {
        leave();
        reject(error);
      },
    };
    const onAbort = (): void => {
      if (signal !== undefined) waiter.reject(abortError(signal, action));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    this.#waiting.add(waiter);
    return promise;
  }
}
