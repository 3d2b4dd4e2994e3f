import assert from "node:assert/strict";
import { run } from "../../tests/support/command.ts";
import type { Benchmark } from "../benchmark.ts";
import { Progress } from "../progress.ts";
import { type Result, resultOf } from "../result.ts";
import { aotStart } from "./aot_start.ts";
import { compute } from "./compute.ts";
import { criStart } from "./cri_start.ts";
import { cycles } from "./cycles.ts";
import { density } from "./density.ts";
import { engineStart } from "./engine_start.ts";
import { isolation } from "./isolation.ts";
import { kill } from "./kill.ts";
import { neighbour } from "./neighbour.ts";

/** What one round of a benchmark comes to. */
async function oneRound(benchmark: Benchmark): Promise<Result[]> {
  const output = { isTerminal: () => false, writeSync: (bytes: Uint8Array) => bytes.length };
  const { signal } = new AbortController();
  const context = { signal, progress: new Progress(output), runs: 1 };
  return (await benchmark(context)).map((one) => resultOf(one));
}

// Set-up for tests alone does not bring the peer's command line.
const ignore = (await run(["sh", "-c", "command -v wasmedge"], { check: false })).status !== 0;

/** Long ones say only what the benchmark itself would: tried with `QUASAUR_LONG_TESTS=1`. */
const long = { ignore: Deno.env.get("QUASAUR_LONG_TESTS") !== "1" };

Deno.test("engine-start measures real guests and real processes", { ignore }, async () => {
  const [result, ...rest] = await oneRound(engineStart);
  assert.ok(result !== undefined && rest.length === 0);
  assert.equal(result.ours.samples, result.peers["wasmedge process"]?.samples);
  assert.ok(result.ours.p50 > 0 && result.ratio !== null && result.ratio > 0);
});

Deno.test("cri-start measures the whole and its parts for everybody", async () => {
  const results = await oneRound(criStart);
  assert.deepEqual(results.map(({ name }) => name), [
    "CRI start",
    "CRI start: RunPodSandbox",
    "CRI start: CreateContainer",
    "CRI start: StartContainer",
  ]);
  for (const { ours, peers } of results) {
    assert.deepEqual(Object.keys(peers), ["runc", "no-op"]);
    for (const { p50, samples } of [ours, ...Object.values(peers)]) {
      assert.ok(p50 > 0);
      assert.equal(samples, 1);
    }
  }
  const [whole, ...parts] = results;
  const sum = parts.reduce((total, part) => total + part.ours.p50, 0);
  assert.ok(Math.abs(sum - (whole?.ours.p50 ?? 0)) < 1e-6);
});

Deno.test(
  "aot-start measures compiled and confined guests, and real processes",
  { ignore },
  async () => {
    const [result, ...rest] = await oneRound(aotStart);
    assert.ok(result !== undefined && rest.length === 0);
    assert.equal(result.ours.samples, result.peers["wasmedge process"]?.samples);
    assert.ok(result.ours.p50 > 0 && result.ratio !== null && result.ratio > 0);
  },
);

Deno.test(
  "compute gets the time of every contender from the program itself",
  { ignore },
  async () => {
    const results = await oneRound(compute);
    assert.deepEqual(results.map(({ name }) => name), [
      "compute: fannkuch",
      "compute: nbody",
      "compute: sha256",
    ]);
    for (const { ours, peers, goal } of results) {
      assert.equal(Object.keys(peers).length, 4);
      for (const { p50 } of [ours, ...Object.values(peers)]) assert.ok(p50 > 0);
      assert.equal(goal, "<= 1.5 of clang -O2");
    }
  },
);

Deno.test("kill ends guests in all that they can be at", async () => {
  const results = await oneRound(kill);
  assert.equal(results.length, 7);
  for (const { ours, unit } of results) assert.ok(unit === "ms" && ours.p50 > 0);
});

Deno.test(
  "cycles looks at memory and at what is left, with and without CRI",
  long,
  async () => {
    const results = await oneRound(cycles);
    assert.deepEqual(results.map(({ unit }) => unit), ["MiB", "MiB", "left", "ms", "MiB", "left"]);
    assert.ok((results[3]?.ours.p50 ?? 0) > 0);
  },
);

Deno.test("neighbour compares execs beside spinning guests with those of an idle machine", {
  ...long,
}, async () => {
  const results = await oneRound(neighbour);
  assert.ok(results.length > 0);
  for (const { ours, peers, ratio } of results) {
    assert.ok(ours.p50 > 0 && ratio !== null && ratio > 0);
    assert.ok((peers["idle"]?.p50 ?? 0) > 0);
  }
});

Deno.test("isolation compares pods on threads with pods in processes", long, async () => {
  const results = await oneRound(isolation);
  assert.deepEqual(results.map(({ unit }) => unit), ["ms", "ms", "KiB"]);
  for (const { peers } of results) assert.deepEqual(Object.keys(peers), ["ours, a process each"]);
  const memory = results[2];
  assert.ok(memory !== undefined && memory.ratio !== null && memory.ratio < 1);
});

Deno.test("density counts pods and guests, and reads what each costs", long, async () => {
  const results = await oneRound(density);
  const [pods, exec, podMemory, , guests] = results.map(({ ours }) => ours.p50);
  assert.deepEqual([pods, guests], [10, 50]);
  assert.ok((exec ?? 0) > 0);
  assert.ok(Number.isFinite(podMemory));
});
