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
import { releaseLoadedPages } from "./native/loaded_pages.ts";
import { WasmEdgeEngine } from "./wasmedge/engine.ts";

if (import.meta.main) {
  await sandboxerMain("wasm", async ({ dir }, log) => {
    const engine = new WasmEdgeEngine();
    engine.system.raiseOpenFileLimit();
    await releaseLoadedPages(engine.system).catch((error: unknown) =>
      log.warn("cannot give memory back", { error: String(error) })
    );
    return new Sandboxer({
      driver: new WasmDriver({ engine, system: engine.system, log }),
      store: new FileStore(dir),
      mounter: new SystemMounter(),
      log,
    });
  });
}
