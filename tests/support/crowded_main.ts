/**
 * The wasm sandboxer with room for two guests: what a full node looks like.
 *
 * @module
 */

import { Sandboxer } from "../../sandboxers/lifecycle/sandboxer.ts";
import { FileStore } from "../../sandboxers/lifecycle/store.ts";
import { sandboxerMain } from "../../sandboxers/serve_main.ts";
import { WasmDriver } from "../../sandboxers/wasm/driver.ts";
import { WASM_FLAGS } from "../../sandboxers/wasm/flags.ts";
import { SystemMounter } from "../../sandboxers/wasm/mounter.ts";
import { WasmEdgeEngine } from "../../sandboxers/wasm/wasmedge/engine.ts";

if (import.meta.main) {
  await sandboxerMain("wasm", ({ dir }, log) => {
    const engine = new WasmEdgeEngine({ guestsMax: 2 });
    return new Sandboxer({
      driver: new WasmDriver({ engine, system: engine.system, log }),
      store: new FileStore(dir),
      mounter: new SystemMounter(),
      log,
    });
  }, WASM_FLAGS);
}
