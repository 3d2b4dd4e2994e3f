/**
 * The vmm sandboxer: pods of a node that are microVMs.
 *
 * @module
 */

import { DEFAULT_HOST_LAUNCHER_PATH } from "../host/launcher_file.ts";
import { Sandboxer } from "../lifecycle/sandboxer.ts";
import { FileStore } from "../lifecycle/store.ts";
import { sandboxerMain } from "../serve_main.ts";
import { vmmAbilities } from "./abilities.ts";
import type { VmmConfig } from "./config/config.ts";
import { VMM_FLAGS } from "./config/flags.ts";
import { openVmm } from "./open.ts";

/** What people want to know of a running sandboxer. */
function details({ hypervisor, template }: VmmConfig): Record<string, string> {
  return {
    hypervisor: hypervisor.path,
    accelerator: hypervisor.accelerator,
    machineType: hypervisor.machineType,
    guestImage: hypervisor.imagePath,
    template: Object.entries(template).map(([name, value]) => `${name}=${value}`).join(" "),
  };
}

if (import.meta.main) {
  await sandboxerMain(
    "vmm",
    async ({ dir, taskListen }, log, { config }, telemetry) => {
      const vmm = await openVmm({
        config,
        directory: dir,
        taskListen,
        telemetry,
        log,
      });
      const { driver, mounter } = vmm;
      const store = new FileStore(dir);
      return {
        sandboxer: new Sandboxer({ driver, mounter, store, observer: telemetry, log }),
        abilities: { ...vmmAbilities(vmm, config), details: () => details(config) },
      };
    },
    VMM_FLAGS,
    { launcher: DEFAULT_HOST_LAUNCHER_PATH },
  );
}
