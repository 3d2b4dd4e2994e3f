/**
 * The quark sandboxer: pods of a node that have an application kernel of their own.
 *
 * @module
 */

import { DEFAULT_HOST_LAUNCHER_PATH } from "../host/launcher_file.ts";
import { Sandboxer } from "../lifecycle/sandboxer.ts";
import { FileStore } from "../lifecycle/store.ts";
import { sandboxerMain } from "../serve_main.ts";
import { quarkAbilities } from "./abilities.ts";
import type { QuarkConfig } from "./config/config.ts";
import { QUARK_FLAGS } from "./config/flags.ts";
import { openQuark } from "./open.ts";

/** What people want to know of a running sandboxer. */
function details({ kernel, gvisor, quark }: QuarkConfig): Record<string, string> {
  return {
    kernel: kernel.default,
    gvisor: gvisor.path,
    gvisorPlatform: gvisor.platform,
    gvisorNetwork: gvisor.network,
    quark: quark.path,
  };
}

if (import.meta.main) {
  await sandboxerMain(
    "quark",
    async ({ dir, taskListen }, log, own, telemetry) => {
      const { config } = own;
      const kind = await openQuark({
        config,
        directory: dir,
        taskListen,
        telemetry,
        log,
      });
      const { driver, mounter } = kind;
      const store = new FileStore(dir);
      return {
        sandboxer: new Sandboxer({ driver, mounter, store, observer: telemetry, log }),
        abilities: { ...quarkAbilities(kind, own["layer-max"]), details: () => details(config) },
      };
    },
    QUARK_FLAGS,
    { launcher: DEFAULT_HOST_LAUNCHER_PATH },
  );
}
