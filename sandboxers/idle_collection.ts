/**
 * Gives back memory when nothing happens. V8 collects garbage when it allocates: what the start of
 * many sandboxes has left stays for as long as the process is idle, on a node that may need it.
 *
 * @module
 */

import type { LifecycleEvent } from "./lifecycle/events.ts";

/** How long nothing may have happened, in milliseconds. */
const QUIET_MS = 1_000;

/** What sandboxes tell. */
export interface EventSource {
  /** Hears every event until the answer is disposed of. */
  subscribe(listener: (event: LifecycleEvent) => void): Disposable;
}

/**
 * Collects garbage once after each time that sandboxes, containers or processes came and went.
 *
 * @param source Tells of them.
 * @param collect Collects (default: V8's `gc`, which is there with the flag `--expose-gc`; without
 *   it nothing is done).
 * @param quietMs How long nothing may have happened, in milliseconds.
 */
export function collectWhenIdle(
  source: EventSource,
  collect: (() => void) | undefined = exposedCollector(),
  quietMs: number = QUIET_MS,
): Disposable {
  if (collect === undefined) return { [Symbol.dispose]: () => undefined };
  let timer: ReturnType<typeof setTimeout> | undefined;
  const subscription = source.subscribe(() => {
    clearTimeout(timer);
    timer = setTimeout(collect, quietMs);
  });
  return {
    [Symbol.dispose]() {
      clearTimeout(timer);
      subscription[Symbol.dispose]();
    },
  };
}

/** V8's own, where its flag is given. */
function exposedCollector(): (() => void) | undefined {
  const gc: unknown = Reflect.get(globalThis, "gc");
  return typeof gc === "function" ? () => void gc() : undefined;
}
