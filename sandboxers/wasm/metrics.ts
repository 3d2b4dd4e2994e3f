/**
 * What the wasm kind has to say of itself: guests, modules in memory, compiled code.
 *
 * @module
 */

import type { Meter } from "../telemetry/meter.ts";
import type { CompiledCache } from "./compiled/cache.ts";
import type { Engine } from "./engine.ts";

/**
 * Has engine and cache read with the other metrics.
 *
 * @param meter Reads metrics.
 * @param engine Runs the guests.
 * @param compiled The cache of compiled code; undefined where guests are interpreted.
 */
export function wasmMetrics(
  meter: Meter,
  engine: Pick<Engine, "stats">,
  compiled: Pick<CompiledCache, "stats"> | undefined,
): void {
  meter.onRead((registry) => {
    const { guests, modules, moduleBytes, moduleHits, moduleMisses } = engine.stats();
    registry.set("quasaur_wasm_guests", {}, guests);
    registry.set("quasaur_wasm_modules", {}, modules);
    registry.set("quasaur_wasm_module_bytes", {}, moduleBytes);
    registry.set("quasaur_wasm_module_requests_total", { source: "memory" }, moduleHits);
    registry.set("quasaur_wasm_module_requests_total", { source: "file" }, moduleMisses);
    if (compiled === undefined) return;
    const { hits, misses, compiled: ok, failed, dropped, compileMs } = compiled.stats();
    registry.set("quasaur_wasm_compiled_requests_total", { result: "hit" }, hits);
    registry.set("quasaur_wasm_compiled_requests_total", { result: "miss" }, misses);
    registry.set("quasaur_wasm_compiles_total", { result: "ok" }, ok);
    registry.set("quasaur_wasm_compiles_total", { result: "failed" }, failed);
    registry.set("quasaur_wasm_compiles_total", { result: "dropped" }, dropped);
    registry.set("quasaur_wasm_compile_seconds_total", {}, compileMs / 1000);
  });
}
