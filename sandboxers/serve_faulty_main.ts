/**
 * A sandboxer process with a fault, for the tests of serve.ts. The first argument names the fault,
 * the others are the flags of every sandboxer.
 *
 * @module
 */

import { MemoryDriver } from "./controller/fixture.ts";
import { parseFlags } from "./flags.ts";
import { noMounts } from "./lifecycle/mounter.ts";
import { Sandboxer } from "./lifecycle/sandboxer.ts";
import { MemoryStore, type StoreContents } from "./lifecycle/store.ts";
import { createLog } from "./log.ts";
import { serve } from "./serve.ts";

const never = new Promise<never>(() => undefined);

/** Recovery never ends. */
class EndlessStore extends MemoryStore {
  override load(): Promise<StoreContents> {
    return never;
  }
}

/** Nothing is ever written. */
class StuckStore extends MemoryStore {
  override put(): Promise<void> {
    return never;
  }
}

/** Every write takes a while. */
class SlowStore extends MemoryStore {
  override async put(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 600));
  }
}

/** Recovery leaves an error behind that nobody waits for. */
class StrayStore extends MemoryStore {
  override load(): Promise<StoreContents> {
    void Promise.reject(new Error("stray rejection"));
    setTimeout(() => {
      throw new Error("stray exception");
    });
    return super.load();
  }
}

const STORES = { endless: EndlessStore, stuck: StuckStore, slow: SlowStore, stray: StrayStore };

if (import.meta.main) {
  const [fault = "", ...args] = Deno.args;
  const outcome = parseFlags("faulty", args);
  const store = Object.entries(STORES).find(([name]) => name === fault)?.[1];
  if (outcome.kind !== "run" || store === undefined) throw new Error(`no fault "${fault}"`);
  const log = createLog();
  const driver = new MemoryDriver();
  const sandboxer = new Sandboxer({ driver, store: new store(), mounter: noMounts, log });
  await serve({ sandboxer, log, ...outcome.flags });
}
