/**
 * Bounded waiting for something to become true, for tests and scripts.
 *
 * @module
 */

/** Options of {@link waitFor}. */
export interface WaitOptions {
  /** How long to wait at most, in milliseconds. Default 30000. */
  readonly timeoutMs?: number;
  /** How long to pause between two looks, in milliseconds. Default 20. */
  readonly intervalMs?: number;
}

/**
 * Waits until a probe gives something.
 *
 * @param what What is waited for, for the message.
 * @param probe Looks once; `undefined`, `false` or an error means "not yet".
 * @returns What the probe gave.
 * @throws {Error} When the time is over; the cause is the probe's last error.
 */
export async function waitFor<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  options: WaitOptions = {},
): Promise<T> {
  const { timeoutMs = 30_000, intervalMs = 20 } = options;
  const end = performance.now() + timeoutMs;
  let cause: unknown;
  do {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
      cause = undefined;
    } catch (error) {
      cause = error;
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  } while (performance.now() < end);
  const last = cause instanceof Error ? `: ${cause.message}` : "";
  throw new Error(`Waited ${timeoutMs} ms in vain for ${what}${last}`, { cause });
}
