/**
 * The wasm sandboxer: WebAssembly guests of all pods of a node, on threads of this process.
 *
 * @module
 */

import { Sandboxer } from "../lifecycle/sandboxer.ts";
import { FileStore } from "../lifecycle/store.ts";
import { sandboxerMain } from "../serve_main.ts";
import { WasmDriver } from "./driver.ts";
import { SystemMounter } from "./mounter.ts";
import { openResidentEngine } from "./resident.ts";

if (import.meta.main) {
  await sandboxerMain("wasm", async ({ dir }, log) => {
    const engine = await openResidentEngine(log);
    return new Sandboxer({
      driver: new WasmDriver({ engine, system: engine.system, log }),
      store: new FileStore(dir),
      mounter: new SystemMounter(),
      log,
    });
  });
}
