/**
 * A sandboxer process around the driver that does nothing: the floor that the benchmarks measure
 * real sandboxers against.
 *
 * @module
 */

import type { Mounter } from "../../sandboxers/lifecycle/mounter.ts";
import { Sandboxer } from "../../sandboxers/lifecycle/sandboxer.ts";
import { FileStore } from "../../sandboxers/lifecycle/store.ts";
import { sandboxerMain } from "../../sandboxers/serve_main.ts";
import { noopDriver } from "./noop_driver.ts";

/** Leaves root file systems unmounted: nothing looks into them. */
const mounter: Mounter = {
  mount: () => Promise.resolve(),
  unmount: () => Promise.resolve(),
};

if (import.meta.main) {
  await sandboxerMain("noop", ({ dir }, log) => {
    return new Sandboxer({ driver: noopDriver(), store: new FileStore(dir), mounter, log });
  });
}
