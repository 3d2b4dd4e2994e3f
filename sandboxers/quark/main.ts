/**
 * The quark sandboxer: pods of a node that have an application kernel of their own.
 *
 * @module
 */

import { Sandboxer } from "../lifecycle/sandboxer.ts";
import { FileStore } from "../lifecycle/store.ts";
import { sandboxerMain } from "../serve_main.ts";
import { QUARK_FLAGS } from "./config/flags.ts";
import { openQuark } from "./open.ts";

if (import.meta.main) {
  await sandboxerMain("quark", async ({ dir, taskListen }, log, { config }) => {
    const { driver, mounter } = await openQuark({ config, directory: dir, taskListen, log });
    return new Sandboxer({ driver, mounter, store: new FileStore(dir), log });
  }, QUARK_FLAGS);
}
