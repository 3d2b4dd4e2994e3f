import assert from "node:assert/strict";
import { linkSignals, sleep } from "./signals.ts";
import { countedSignal } from "./testing/counted_signal.ts";

Deno.test("a linked signal aborts with the first source, for its reason", () => {
  const [a, b] = [new AbortController(), new AbortController()];
  using linked = linkSignals(a.signal, undefined, b.signal);
  assert.equal(linked.signal.aborted, false);
  b.abort("enough");
  a.abort("later");
  assert.equal(linked.signal.aborted, true);
  assert.equal(linked.signal.reason, "enough");
});

Deno.test("a source that has aborted already aborts the linked signal at once", () => {
  const live = new AbortController();
  using linked = linkSignals(live.signal, AbortSignal.abort("before"));
  assert.equal(linked.signal.reason, "before");
});

Deno.test("a linked signal lets go of its sources when it is disposed of", () => {
  const source = new AbortController();
  const linked = linkSignals(source.signal);
  linked[Symbol.dispose]();
  source.abort();
  assert.equal(linked.signal.aborted, false);
});

Deno.test("no source, no abort", () => {
  using linked = linkSignals(undefined);
  assert.equal(linked.signal.aborted, false);
});

Deno.test("a sleeper wakes with its signal, and leaves nothing at it either way", async () => {
  const { signal, listeners, abort } = countedSignal();
  await sleep(1, signal);
  await sleep(1, signal);
  assert.equal(listeners(), 0);
  const sleeping = sleep(3_600_000, signal);
  assert.equal(listeners(), 1);
  abort();
  await sleeping;
  await sleep(3_600_000, signal);
  assert.equal(listeners(), 0);
});
