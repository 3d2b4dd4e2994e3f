/**
 * When a pod process that nobody is connected to ends by itself: a sandboxer that is restarted comes
 * back within seconds, one that was removed from the node never does.
 *
 * @module
 */

/** How often an unconnected pod process looks, in milliseconds. */
const LOOK_INTERVAL_MS = 5_000;
/** How long one in which nothing runs waits for a sandboxer, in milliseconds. */
const IDLE_MS = 600_000;

/** What an unconnected pod process sees when it looks. */
export interface OrphanView {
  /** Whether a sandboxer is connected. */
  readonly connected: boolean;
  /** How many processes run. */
  readonly running: number;
  /** Whether the socket is still where sandboxers look for it. */
  readonly reachable: boolean;
  /** Milliseconds on a clock that is never set. */
  readonly now: number;
}

/**
 * Waits until nobody will ever need this process again: its socket is gone, as happens when the state
 * of the sandboxer is removed; or nothing has run in it, and nobody has been connected, for ten
 * minutes. Guests that run keep it alive for as long as it can be reached.
 *
 * @param look Looks once.
 * @param intervalMs How often to look.
 * @returns Why, for the log.
 */
export async function orphaned(
  look: () => OrphanView,
  intervalMs: number = LOOK_INTERVAL_MS,
): Promise<string> {
  let idleSince = look().now;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
    const { connected, running, reachable, now } = look();
    if (connected || running > 0) idleSince = now;
    if (connected) continue;
    if (!reachable) return "its socket was removed";
    if (now - idleSince >= IDLE_MS) return "nothing runs in it and no sandboxer came back";
  }
}
