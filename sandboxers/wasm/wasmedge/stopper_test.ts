/**
 * The stop flag.
 *
 * @module
 */

import assert from "node:assert/strict";
import { engine, system, until } from "../fixture.ts";
import { DEFAULT_LIBRARY_PATH } from "../native/library.ts";
import { OPEN } from "../native/syscalls.ts";
import { WasmEdgeLibrary } from "./library.ts";
import { NothingFunction, Stopper } from "./stopper.ts";
import { SPIN } from "./test_modules.ts";

const library = new WasmEdgeLibrary(DEFAULT_LIBRARY_PATH);
const INTERRUPTED = 7;

/** Where the stop flag cannot be found. */
class WithoutFlag extends NothingFunction {
  override setFlag(): boolean {
    return false;
  }
}

/** Calls the function that does nothing on an executor of its own, before and after it is stopped. */
async function resultsOf(nothing: NothingFunction): Promise<readonly number[]> {
  const { c } = library;
  const executor = c.WasmEdge_ExecutorCreate(library.guestConfiguration(1), 0n);
  const invoke = () => c.WasmEdge_ExecutorInvoke(executor, nothing.address, 0n, 0, 0n, 0);
  try {
    using stopper = new Stopper(library, executor, nothing);
    const before = invoke();
    await until("it is stopped", () => stopper.stop());
    const after = invoke();
    await until("nothing of it runs", () => stopper.settled);
    return [before, after, invoke()];
  } finally {
    c.WasmEdge_ExecutorDelete(executor);
  }
}

Deno.test("the stop flag of this engine is found, and stops the next call", async () => {
  using nothing = new NothingFunction(library);
  const executor = library.c.WasmEdge_ExecutorCreate(library.guestConfiguration(1), 0n);
  assert.equal(nothing.setFlag(executor), true);
  library.c.WasmEdge_ExecutorDelete(executor);
  assert.deepEqual(await resultsOf(nothing), [0, INTERRUPTED, 0]);
});

Deno.test("where the flag is not found, a WasmEdge_Async stops", async () => {
  using nothing = new WithoutFlag(library);
  assert.deepEqual(await resultsOf(nothing), [0, INTERRUPTED, 0]);
});

Deno.test("stopping interpreted guests takes no thread", async () => {
  const nowhere = system.open("/dev/null", OPEN.readWrite, "null");
  using module = await engine.load(SPIN);
  using guest = await engine.instantiate(module, {
    ...{ args: ["spin"], env: [], preopens: [] },
    ...{ stdin: nowhere, stdout: nowhere, stderr: nowhere },
  });
  await guest.start({ name: "spin", steps: [] });
  const threads = () => [...Deno.readDirSync("/proc/self/task")].map(({ name }) => name);
  const before = new Set(threads());
  guest.kill();
  assert.deepEqual(threads().filter((tid) => !before.has(tid)), []);
  assert.deepEqual(await guest.ended, { kind: "killed" });
  system.close(nowhere);
});
