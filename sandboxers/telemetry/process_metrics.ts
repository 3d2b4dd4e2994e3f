/**
 * What is known of the process itself: version, memory, CPU time, how late its event loop is.
 *
 * @module
 */

import process from "node:process";
import config from "../../deno.json" with { type: "json" };
import type { Meter } from "./meter.ts";
import type { Registry } from "./registry.ts";

/** How often the event loop is looked at, in milliseconds. */
const LOOK_MS = 250;

/** How long after the last time that metrics were read it is no longer looked at, in milliseconds. */
const IDLE_MS = 300_000;

/**
 * Has the metrics of this process read with the others.
 *
 * @param meter Reads metrics.
 * @returns Stops looking at the event loop.
 */
export function processMetrics(meter: Meter): Disposable {
  const loop = new LoopDelay(meter);
  const collections = new Collections(meter);
  meter.onRead((registry) => {
    loop.wanted();
    collections.wanted();
    readProcess(registry);
  });
  return loop;
}

function readProcess(registry: Registry): void {
  const { deno, v8 } = Deno.version;
  registry.set("quasaur_build_info", { version: config.version, deno, v8 }, 1);
  const { rss, heapTotal, heapUsed, external } = Deno.memoryUsage();
  registry.set("process_resident_memory_bytes", {}, rss);
  registry.set("quasaur_heap_size_bytes", {}, heapTotal);
  registry.set("quasaur_heap_used_bytes", {}, heapUsed);
  registry.set("quasaur_external_memory_bytes", {}, external);
  const { user, system } = process.cpuUsage();
  registry.set("process_cpu_seconds_total", {}, (user + system) / 1e6);
  registry.set("process_start_time_seconds", {}, performance.timeOrigin / 1000);
}

/** Looks how late a timer is, from when metrics are read first until nobody reads them any more. */
class LoopDelay implements Disposable {
  readonly #meter: Meter;
  #timer: ReturnType<typeof setInterval> | undefined;
  #due = 0;
  #wantedAt = 0;

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  wanted(): void {
    this.#wantedAt = performance.now();
    if (this.#timer !== undefined) return;
    this.#due = this.#wantedAt + LOOK_MS;
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
    Deno.unrefTimer(Number(this.#timer));
  }

  #look(): void {
    const now = performance.now();
    const lateMs = Math.max(0, now - this.#due);
    this.#meter.measure("quasaur_event_loop_delay_seconds", {}, lateMs / 1000);
    this.#due = now + LOOK_MS;
    if (now - this.#wantedAt > IDLE_MS) this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

/**
 * Notices collections of the whole heap: V8 tells of the end of an object that nobody holds only when
 * it has done one.
 */
class Collections {
  readonly #registry: FinalizationRegistry<undefined>;
  #watching = false;

  constructor(meter: Meter) {
    this.#registry = new FinalizationRegistry(() => {
      meter.count("quasaur_garbage_collections_total", {});
      this.#watch();
    });
  }

  wanted(): void {
    if (this.#watching) return;
    this.#watching = true;
    this.#watch();
  }

  #watch(): void {
    this.#registry.register({}, undefined);
  }
}
