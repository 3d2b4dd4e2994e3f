/**
 * Effects that are wanted once, such as the release of something, from callers that may try again.
 *
 * @module
 */

/**
 * Makes an effect happen once: calls while it runs and after it has succeeded share its end; after a
 * failure the next call tries again.
 *
 * @param effect What happens.
 */
export function once(effect: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () =>
    running ??= effect().catch((error) => {
      running = undefined;
      throw error;
    });
}
