/**
 * The wasm sandboxer: WebAssembly guests of all pods of a node, on threads of this process.
 *
 * @module
 */

import { Sandboxer } from "../lifecycle/sandboxer.ts";
import { FileStore } from "../lifecycle/store.ts";
import { sandboxerMain } from "../serve_main.ts";
import { wasmAbilities } from "./abilities.ts";
import { openEngineCache } from "./compiled/open.ts";
import { Cgroups } from "./cgroups/cgroups.ts";
import { SystemCgroupFiles } from "./cgroups/files.ts";
import { WasmDriver } from "./driver.ts";
import { WASM_FLAGS } from "./flags.ts";
import { wasmMetrics } from "./metrics.ts";
import { SystemMounter } from "./mounter.ts";
import { DEFAULT_LAUNCHER_PATH } from "./native/launcher_file.ts";
import { ProcessPods } from "./pod_process/process_pods.ts";
import { openResidentEngine } from "./resident.ts";

if (import.meta.main) {
  await sandboxerMain(
    "wasm",
    async ({ dir, taskListen }, log, own, telemetry) => {
      const compiled = own["engine-mode"] === "compiled"
        ? await openEngineCache(own["cache-dir"], { log })
        : undefined;
      const engine = await openResidentEngine(log, compiled);
      const { system } = engine;
      wasmMetrics(telemetry, engine, compiled);
      telemetry.readOutputsWith((path) => system.modifiedAtMs(path));
      const cgroups = new Cgroups({
        files: new SystemCgroupFiles(system, system.libraryPath),
        log,
      });
      // An earlier process may still hold the state directory because of them.
      await cgroups.thawDying();
      const sandboxer = new Sandboxer({
        driver: new WasmDriver({
          engine,
          system,
          cgroups,
          podDirectory: `${dir}/pods`,
          processes: new ProcessPods({
            directory: `${dir}/processes`,
            podDirectory: `${dir}/pods`,
            taskSocket: taskListen,
            system,
            cgroups,
            ...(compiled === undefined ? {} : { compiled }),
            log,
            logLevel: log,
            observer: telemetry,
          }),
          observer: telemetry,
          log,
        }),
        store: new FileStore(dir),
        mounter: new SystemMounter(),
        observer: telemetry,
        log,
      });
      const details = () => ({
        engine: `${engine.name} ${engine.version}`,
        engineMode: own["engine-mode"],
      });
      return { sandboxer, abilities: { ...wasmAbilities(system, own["layer-max"]), details } };
    },
    WASM_FLAGS,
    { launcher: DEFAULT_LAUNCHER_PATH },
  );
}
