import assert from "node:assert/strict";
import { collectWhenIdle } from "./idle_collection.ts";
import { fixture } from "./lifecycle/testing/fixture.ts";
import { sandboxSpec } from "./lifecycle/testing/specs.ts";

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

Deno.test("garbage is collected once when sandboxes have come and gone, and not before", async () => {
  const { sandboxer } = fixture();
  let collections = 0;
  const collecting = collectWhenIdle(sandboxer, () => collections++, 50);
  await pause(100);
  assert.equal(collections, 0);
  for (const id of ["a", "b", "c"]) {
    await sandboxer.createSandbox(sandboxSpec(id));
    await sandboxer.deleteSandbox(id);
  }
  assert.equal(collections, 0);
  while (collections === 0) await pause(10);
  await pause(100);
  assert.equal(collections, 1);
  await sandboxer.createSandbox(sandboxSpec("d"));
  collecting[Symbol.dispose]();
  await pause(100);
  assert.equal(collections, 1);
});
