/**
 * Makes a process ready to run the guests of a whole node: more open files, the event loop ahead of
 * the guests, no memory held that only starting up needed.
 *
 * @module
 */

import type { Log } from "../log.ts";
import type { CompiledModules } from "./compiled_modules.ts";
import { DEFAULT_LIBRARY_PATH } from "./native/library.ts";
import { releaseLoadedPages } from "./native/loaded_pages.ts";
import { System } from "./native/system.ts";
import { WasmEdgeEngine } from "./wasmedge/engine.ts";

/** The nice value of the thread that runs the event loop: it only hands work on, so it goes first. */
const EVENT_LOOP_NICE = -5;

/**
 * Opens the engine for a process that does nothing else.
 *
 * @param log Hears of what could not be done and is not needed.
 * @param compiled Where compiled code comes from; without it guests are interpreted.
 * @throws {SandboxError} `FailedPrecondition` when the engine or the guest library is missing.
 */
export async function openResidentEngine(
  log: Log,
  compiled?: CompiledModules,
): Promise<WasmEdgeEngine> {
  const favoured = new System(DEFAULT_LIBRARY_PATH).setThreadNice(EVENT_LOOP_NICE);
  // Beside a favoured event loop guests need not go last.
  const engine = new WasmEdgeEngine({
    ...(favoured ? { guestNice: 0 } : {}),
    ...(compiled === undefined ? {} : { compiled }),
  });
  engine.system.raiseOpenFileLimit();
  try {
    await releaseLoadedPages(engine.system);
  } catch (error) {
    log.warn("cannot give memory back", { error: String(error) });
  }
  return engine;
}
