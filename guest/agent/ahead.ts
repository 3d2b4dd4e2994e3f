/**
 * What a guest does for its first container before there is a pod: the clones of a template have it
 * done.
 *
 * @module
 */

import { prepareInit } from "./init.ts";
import { log } from "./log.ts";
import { prepareOverlay } from "./rootfs.ts";
import { preparePod } from "./setup.ts";

/** Prepares what can be; what cannot is done when it is needed. May be called more than once. */
export function prepareAhead(): void {
  for (const prepare of [preparePod, prepareOverlay, prepareInit]) attempt(prepare);
}

/** Does something that is only good to have done. */
export function attempt(step: () => void): void {
  try {
    step();
  } catch (thrown) {
    log("warn", `cannot prepare: ${thrown instanceof Error ? thrown.message : thrown}`);
  }
}
