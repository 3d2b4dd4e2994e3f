/**
 * The end of what is written for as long as somebody reads it, as in `quasaur events -f | head -n 1`.
 *
 * @module
 */

/**
 * Waits for something that writes to a pipe. That its reader has gone is its end, and no failure.
 *
 * @param work What is waited for.
 * @throws Whatever else it fails with.
 */
export async function untilUnread(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
