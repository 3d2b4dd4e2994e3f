import assert from "node:assert/strict";
import { type Collector, collectWhenIdle } from "./idle_collection.ts";
import { fixture } from "./lifecycle/testing/fixture.ts";
import { sandboxSpec } from "./lifecycle/testing/specs.ts";

const MIB = 1 << 20;
const QUIET_MS = 20;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** A heap of which everything above the first part is garbage. */
class Heap implements Collector {
  readonly collections: ("thorough" | "plain")[] = [];
  bytes = 0;

  used(): number {
    return this.bytes;
  }

  collect(thoroughly: boolean): void {
    this.collections.push(thoroughly ? "thorough" : "plain");
    this.bytes = 0;
  }

  async collected(times: number): Promise<void> {
    while (this.collections.length < times) await pause(QUIET_MS);
  }
}

Deno.test("garbage is collected once when sandboxes have come and gone, and not before", async () => {
  const { sandboxer } = fixture();
  const heap = new Heap();
  const collecting = collectWhenIdle(sandboxer, heap, 5 * QUIET_MS);
  for (const id of ["a", "b", "c"]) {
    await sandboxer.createSandbox(sandboxSpec(id));
    await sandboxer.deleteSandbox(id);
  }
  await heap.collected(1);
  await pause(15 * QUIET_MS);
  assert.deepEqual(heap.collections, ["plain"]);
  await sandboxer.createSandbox(sandboxSpec("d"));
  collecting[Symbol.dispose]();
  await pause(15 * QUIET_MS);
  assert.deepEqual(heap.collections, ["plain"]);
});

Deno.test("what the start of the process has left is collected thoroughly, and once", async () => {
  const { sandboxer } = fixture();
  const heap = new Heap();
  heap.bytes = 20 * MIB;
  using _collecting = collectWhenIdle(sandboxer, heap, QUIET_MS);
  await heap.collected(1);
  // Kinds that work without sandboxes, such as on a template.
  heap.bytes = 2 * MIB;
  await heap.collected(2);
  heap.bytes = MIB / 2;
  await pause(5 * QUIET_MS);
  assert.deepEqual(heap.collections, ["thorough", "plain"]);
});

Deno.test("a heap that grows is left alone until it is calm", async () => {
  const { sandboxer } = fixture();
  const heap = new Heap();
  let looks = 0;
  const growing: Collector = {
    used() {
      looks++;
      heap.bytes += looks < 10 ? MIB : 0;
      return heap.bytes;
    },
    collect: (thoroughly) => {
      assert.ok(looks >= 10, `collected at look ${looks}`);
      heap.collect(thoroughly);
    },
  };
  using _collecting = collectWhenIdle(sandboxer, growing, 1);
  await heap.collected(1);
  assert.deepEqual(heap.collections, ["thorough"]);
});
