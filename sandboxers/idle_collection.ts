/**
 * Gives back memory when nothing happens. V8 collects garbage when it allocates: what the start of
 * the process, of many sandboxes or of a template has left stays for as long as the process is idle,
 * on a node that may need it.
 *
 * @module
 */

import { getHeapStatistics } from "node:v8";
import type { LifecycleEvent } from "./lifecycle/events.ts";

/** How long nothing may have happened, in milliseconds. */
const QUIET_MS = 1_000;

/** The longest pause between two looks at the heap while nothing happens, in quiet times. */
const LOOK_QUIETS_MAX = 16;

/** What the heap may have grown by since the last collection before that is worth another, in bytes. */
const WASTE_BYTES = 1 << 20;

/** A heap that grows by more than this in a quiet time is at work, in bytes. */
const CALM_BYTES = 128 << 10;

/** What sandboxes tell. */
export interface EventSource {
  /** Hears every event until the answer is disposed of. */
  subscribe(listener: (event: LifecycleEvent) => void): Disposable;
}

/** What collects garbage. */
export interface Collector {
  /** How much of the heap is used, in bytes. */
  used(): number;
  /**
   * Collects.
   *
   * @param thoroughly Throws away also code that can be compiled again, and gives back every page
   *   that can be had. Takes ten times as long.
   */
  collect(thoroughly: boolean): void;
}

/**
 * Collects garbage once after each time that sandboxes, containers or processes came and went, and
 * when the heap has grown without them and is calm again. The first time is thorough where no sandbox
 * came before it: what the start of the process needed is not needed again.
 *
 * @param source Tells of them.
 * @param collector Collects (default: V8's `gc`, which is there with the flag `--expose-gc`; without
 *   it nothing is done).
 * @param quietMs How long nothing may have happened, in milliseconds.
 */
export function collectWhenIdle(
  source: EventSource,
  collector: Collector | undefined = exposedCollector(),
  quietMs: number = QUIET_MS,
): Disposable {
  if (collector === undefined) return { [Symbol.dispose]: () => undefined };
  return new IdleCollection(source, collector, quietMs);
}

/** Looks at the heap: soon after something happened, and less and less often while nothing does. */
class IdleCollection implements Disposable {
  readonly #collector: Collector;
  readonly #quietMs: number;
  readonly #subscription: Disposable;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #pauseMs: number;
  /** Whether something has happened since the last collection. */
  #happened = false;
  /** Whether the next collection is the first, and nothing has happened before it. */
  #starting = true;
  /** What was used after the last collection, and at the last look. */
  #kept = 0;
  #seen: number;

  constructor(source: EventSource, collector: Collector, quietMs: number) {
    this.#collector = collector;
    this.#quietMs = quietMs;
    this.#pauseMs = quietMs;
    this.#seen = collector.used();
    this.#subscription = source.subscribe(() => {
      this.#happened = true;
      this.#starting = false;
      this.#lookIn(quietMs);
    });
    this.#lookIn(quietMs);
  }

  #lookIn(ms: number): void {
    this.#pauseMs = ms;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), ms);
  }

  #look(): void {
    const used = this.#collector.used();
    const grown = used - this.#seen;
    this.#seen = used;
    // V8 has collected by itself meanwhile.
    this.#kept = Math.min(this.#kept, used);
    const isCalm = grown < CALM_BYTES;
    if (this.#happened || (isCalm && used - this.#kept > WASTE_BYTES)) this.#collect();
    const longest = LOOK_QUIETS_MAX * this.#quietMs;
    this.#lookIn(isCalm ? Math.min(2 * this.#pauseMs, longest) : this.#quietMs);
  }

  #collect(): void {
    this.#collector.collect(this.#starting);
    this.#happened = false;
    this.#starting = false;
    this.#seen = this.#kept = this.#collector.used();
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#subscription[Symbol.dispose]();
  }
}

/** V8's own, where its flag is given. */
function exposedCollector(): Collector | undefined {
  const gc: unknown = Reflect.get(globalThis, "gc");
  if (typeof gc !== "function") return undefined;
  return {
    used: () => getHeapStatistics().used_heap_size,
    collect: (thoroughly) =>
      void (thoroughly ? gc({ type: "major", flavor: "last-resort" }) : gc()),
  };
}
