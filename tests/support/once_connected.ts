/**
 * Waits for containerd to find a sandboxer again that was started anew: until then it refuses calls
 * for that, or the one that is under way breaks.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** How often a call is tried. */
const TRIES_MAX = 100;
/** How long to wait in between, in milliseconds. */
const AGAIN_MS = 50;

/**
 * Makes a call, and again for as long as containerd has no connection for it.
 *
 * @param call The call; one that was not connected has changed nothing that stays.
 */
export async function onceConnected<T>(call: () => Promise<T>): Promise<T> {
  for (let tries = 1;; tries++) {
    try {
      return await call();
    } catch (error) {
      if (tries === TRIES_MAX || !isUnconnected(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
    }
  }
}

function isUnconnected(error: unknown): boolean {
  return error instanceof SandboxError && error.code === "Unavailable" &&
    /connection error|connection refused|error reading from server/.test(error.message);
}
