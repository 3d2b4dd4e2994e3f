/**
 * Waits for what a test has begun.
 *
 * @module
 */

/** Waits, a millisecond at a time, until something is so. */
export async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
}
