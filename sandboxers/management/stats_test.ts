import assert from "node:assert/strict";
import { countedSignal } from "../lifecycle/testing/counted_signal.ts";
import { fixture } from "../lifecycle/testing/fixture.ts";
import { type SandboxStatsMessage, StatsSampler } from "./stats.ts";

const { signal } = new AbortController();

/** The ids of measured sandboxes, and whether there are figures. */
function figures(measured: readonly SandboxStatsMessage[] | undefined): [string, boolean][] {
  return (measured ?? []).map(({ sandboxId = "", usage }) => [sandboxId, usage !== undefined]);
}

Deno.test("only what runs is measured, unless it is asked for", async () => {
  const world = fixture();
  await world.ready("ready");
  await world.running("also", "c");
  await world.ready("stopped");
  await world.sandboxer.stopSandbox("stopped", 0);
  const sampler = new StatsSampler(world.sandboxer);
  const all = await sampler.follow({ sandboxIds: [] }, signal).next();
  assert.deepEqual(figures(all.value), [["ready", true], ["also", true]]);
  const asked = await sampler.follow({ sandboxIds: ["stopped"] }, signal).next();
  assert.deepEqual(figures(asked.value), [["stopped", false]]);
});

Deno.test("a sandbox that does not answer is left out, and holds up no other", async () => {
  const world = fixture();
  await world.ready("stuck");
  await world.ready("other");
  const hold = world.gate.hold("driver.sandbox-stats");
  const sampler = new StatsSampler(world.sandboxer, 20);
  const first = await sampler.follow({ sandboxIds: [] }, signal).next();
  assert.deepEqual(figures(first.value), [["stuck", false], ["other", true]]);
  // It is not asked again while it has not answered.
  const asked = world.gate.steps.filter((step) => step === "driver.sandbox-stats").length;
  const second = await sampler.follow({ sandboxIds: ["stuck"] }, signal).next();
  assert.deepEqual(figures(second.value), [["stuck", false]]);
  assert.equal(world.gate.steps.filter((step) => step === "driver.sandbox-stats").length, asked);
  hold.release();
  await world.rest();
  const third = await sampler.follow({ sandboxIds: ["stuck"] }, signal).next();
  assert.deepEqual(figures(third.value), [["stuck", true]]);
});

Deno.test("callers who ask at the same time share the measurements", async () => {
  const world = fixture();
  for (let i = 0; i < 20; i++) await world.ready(`s${i}`);
  world.gate.steps.length = 0;
  const sampler = new StatsSampler(world.sandboxer);
  const callers = Array.from(
    { length: 50 },
    () => sampler.follow({ sandboxIds: [] }, signal).next(),
  );
  for (const { value } of await Promise.all(callers)) assert.equal(value?.length, 20);
  const asked = world.gate.steps.filter((step) => step === "driver.sandbox-stats").length;
  assert.ok(asked < 500, `${asked} measurements for 50 callers of 20 sandboxes`);
});

Deno.test("a caller that stays leaves nothing at its signal from one measurement to the next", async () => {
  const world = fixture();
  await world.ready("s");
  const { signal, listeners } = countedSignal();
  const sampler = new StatsSampler(world.sandboxer);
  const stream = sampler.follow({ sandboxIds: [], intervalMs: 100 }, signal);
  for (let i = 0; i < 3; i++) await stream.next();
  assert.equal(listeners(), 0);
  await stream.return(undefined);
});

Deno.test("a caller that goes away ends its measurements", async () => {
  const world = fixture();
  await world.ready("s");
  const abort = new AbortController();
  const sampler = new StatsSampler(world.sandboxer);
  const stream = sampler.follow({ sandboxIds: [], intervalMs: 3_600_000 }, abort.signal);
  await stream.next();
  const next = stream.next();
  abort.abort();
  await assert.rejects(next, { code: "Cancelled" });
});
