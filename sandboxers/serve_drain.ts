/**
 * How a sandboxer leaves without breaking off what it does: nothing new is begun, what is under way
 * gets some time to finish, and what cannot finish is undone.
 *
 * @module
 */

import type { Sandboxer } from "./lifecycle/sandboxer.ts";

/** How often it is looked whether everything has finished, in milliseconds. */
const LOOK_MS = 20;
/** How long nothing may be under way until nothing more is expected, in milliseconds. */
const QUIET_MS = 100;
/** How often the log hears of what is still under way, in milliseconds. */
const TELL_MS = 1000;

/** What {@link drain} waits with. */
export interface DrainOptions {
  /** The lifecycle; it takes on nothing new already. */
  readonly sandboxer: Pick<Sandboxer, "underWay">;
  /** How long to wait at most, in milliseconds. */
  readonly timeoutMs: number;
  /** Aborted when somebody is in a hurry. */
  readonly hurry?: AbortSignal | undefined;
  /** Hears at first, and each second, how much is still under way. */
  readonly tell: (underWay: number) => void;
}

/**
 * Waits until nothing is under way in the lifecycle, and nothing has been for a moment: who makes a
 * container asks several things in a row.
 *
 * @param options See {@link DrainOptions}.
 * @returns How much still is.
 */
export async function drain(
  { sandboxer, timeoutMs, hurry, tell }: DrainOptions,
): Promise<number> {
  const end = performance.now() + timeoutMs;
  let tellAt = 0;
  let busyAt = performance.now();
  for (;;) {
    const { underWay } = sandboxer;
    const now = performance.now();
    if (underWay > 0) busyAt = now;
    if (now - busyAt >= QUIET_MS || now >= end || hurry?.aborted) return underWay;
    if (underWay > 0 && now >= tellAt) {
      tell(underWay);
      tellAt = now + TELL_MS;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
