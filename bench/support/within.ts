/**
 * Waits for something, but not for ever.
 *
 * @module
 */

/**
 * Waits for a promise.
 *
 * @param timeoutMs How long at most, in milliseconds.
 * @param what What is waited for, for the message.
 * @param promise It; it stays the caller's and goes on after a time-out.
 * @throws {Error} When the time is over, or what the promise rejects with.
 */
export async function within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`waited ${timeoutMs} ms in vain for ${what}`)),
    timeoutMs,
  );
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
