import assert from "node:assert/strict";
import { type Measurement, resultOf } from "./result.ts";

const measurement: Measurement = {
  name: "start",
  unit: "ms",
  series: new Map([["ours", [2, 1, 3]], ["runc", [20]], ["no-op", [1.8]]]),
  peer: "runc",
  goals: [
    { kind: "value", atMost: 2 },
    { kind: "ratio", peer: "runc", atMost: 0.25, written: "1/4" },
    { kind: "ratio", peer: "no-op", atMost: 1.25, written: "1.25" },
  ],
};

Deno.test("resultOf() has the shape that the JSON file promises", () => {
  assert.deepEqual(JSON.parse(JSON.stringify(resultOf(measurement))), {
    name: "start",
    table: "base",
    unit: "ms",
    ours: { p50: 2, p90: 3, p99: 3, samples: 3 },
    peer: "runc",
    peers: {
      "runc": { p50: 20, p90: 20, p99: 20, samples: 1 },
      "no-op": { p50: 1.8, p90: 1.8, p99: 1.8, samples: 1 },
    },
    ratio: 0.1,
    goal: "<= 2 ms; <= 1/4 of runc; <= 1.25 of no-op",
    limit: 2,
    reached: true,
  });
});

Deno.test("resultOf() is reached only when every goal is", () => {
  const slowPeer = new Map([...measurement.series, ["no-op", [1]]] as const);
  assert.equal(resultOf({ ...measurement, series: slowPeer }).reached, false);
  const slow = new Map([...measurement.series, ["ours", [2.1]]] as const);
  assert.equal(resultOf({ ...measurement, series: slow }).reached, false);
});

Deno.test("resultOf() judges nothing where nothing is promised", () => {
  const series = new Map([["ours", [5]]]);
  const result = resultOf({ name: "memory", unit: "MiB", series });
  assert.deepEqual(
    [result.peer, result.ratio, result.goal, result.limit, result.reached, result.peers],
    [null, null, null, null, null, {}],
  );
});

Deno.test("resultOf() refuses a measurement without our own or the peer's values", () => {
  const withoutOurs = new Map([["runc", [1]]]);
  assert.throws(() => resultOf({ ...measurement, series: withoutOurs }), /no values of "ours"/);
  const withoutPeer = new Map([["ours", [1]]]);
  assert.throws(() => resultOf({ ...measurement, series: withoutPeer }), /no values of "runc"/);
});

Deno.test("resultOf() holds the 99th percentile or a least number against a goal that says so", () => {
  const series = new Map([["ours", [1, 1, 1, 40]]]);
  const kill = (atMost: number) =>
    resultOf({ name: "kill", unit: "ms", series, goals: [{ kind: "value", atMost, of: "p99" }] });
  assert.equal(kill(20).goal, "p99 <= 20 ms");
  assert.equal(kill(20).reached, false);
  assert.equal(kill(40).reached, true);
  const pods = (atLeast: number) =>
    resultOf({ name: "pods", unit: "pods", series, goals: [{ kind: "least", atLeast }] }, "wasm");
  assert.equal(pods(1).goal, ">= 1 pods");
  assert.equal(pods(1).table, "wasm");
  assert.equal(pods(1).reached, true);
  assert.equal(pods(2).reached, false);
});
