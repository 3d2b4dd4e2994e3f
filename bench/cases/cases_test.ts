import assert from "node:assert/strict";
import { run } from "../../tests/support/command.ts";
import type { Benchmark } from "../benchmark.ts";
import { Progress } from "../progress.ts";
import { type Result, resultOf } from "../result.ts";
import { criStart } from "./cri_start.ts";
import { engineStart } from "./engine_start.ts";

/** What one round of a benchmark comes to. */
async function oneRound(benchmark: Benchmark): Promise<Result[]> {
  const output = { isTerminal: () => false, writeSync: (bytes: Uint8Array) => bytes.length };
  const { signal } = new AbortController();
  const context = { signal, progress: new Progress(output), runs: 1 };
  return (await benchmark(context)).map(resultOf);
}

// Set-up for tests alone does not bring the peer's command line.
const ignore = (await run(["sh", "-c", "command -v wasmedge"], { check: false })).status !== 0;

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
