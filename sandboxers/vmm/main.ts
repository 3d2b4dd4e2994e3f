/**
 * The vmm sandboxer: pods of a node that are microVMs.
 *
 * @module
 */

import { Sandboxer } from "../lifecycle/sandboxer.ts";
import { FileStore } from "../lifecycle/store.ts";
import { sandboxerMain } from "../serve_main.ts";
import { VMM_FLAGS } from "./config/flags.ts";
import { openVmm } from "./open.ts";

if (import.meta.main) {
  await sandboxerMain("vmm", async ({ dir, taskListen }, log, { config }) => {
    const { driver, mounter } = await openVmm({ config, directory: dir, taskListen, log });
    return new Sandboxer({ driver, mounter, store: new FileStore(dir), log });
  }, VMM_FLAGS);
}
