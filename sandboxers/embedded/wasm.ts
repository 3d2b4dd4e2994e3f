/**
 * The wasm kind, embedded: guests run on threads of this process.
 *
 * @module
 */

import { WasmDriver } from "../wasm/driver.ts";
import { assertModuleHeader } from "../wasm/module_bytes.ts";
import { WasmEdgeEngine } from "../wasm/wasmedge/engine.ts";
import type { EmbeddedKind } from "./kind.ts";

/**
 * Opens the engine and makes a driver on it.
 *
 * @throws {SandboxError} `FailedPrecondition` when the engine or the guest library is missing.
 */
export function loadWasm(): EmbeddedKind {
  const engine = new WasmEdgeEngine();
  const { system } = engine;
  return {
    driver: new WasmDriver({ engine, system }),
    descriptors: system,
    checkModule: assertModuleHeader,
    [Symbol.asyncDispose]: () => engine.close(),
  };
}
