import assert from "node:assert/strict";
import { percentile, summarize } from "./percentiles.ts";

Deno.test("percentile() gives the value at the nearest rank", () => {
  const values = Array.from({ length: 100 }, (_, index) => index + 1);
  assert.equal(percentile(values, 50), 50);
  assert.equal(percentile(values, 90), 90);
  assert.equal(percentile(values, 99), 99);
  assert.equal(percentile(values, 100), 100);
});

Deno.test("percentile() never makes up a value between two", () => {
  assert.equal(percentile([1, 10], 50), 1);
  assert.equal(percentile([1, 10], 51), 10);
  assert.equal(percentile([1, 2, 3], 50), 2);
});

Deno.test("percentile() of one value is that value", () => {
  for (const percent of [0.1, 50, 99, 100]) assert.equal(percentile([7], percent), 7);
});

Deno.test("percentile() refuses an empty series", () => {
  assert.throws(() => percentile([], 50), RangeError);
});

Deno.test("summarize() sorts by number and leaves its input alone", () => {
  const values = [100, 9, 10, 1];
  assert.deepEqual(summarize(values), { p50: 9, p90: 100, p99: 100, samples: 4 });
  assert.deepEqual(values, [100, 9, 10, 1]);
});
