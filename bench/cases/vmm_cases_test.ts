import assert from "node:assert/strict";
import type { Benchmark } from "../benchmark.ts";
import { Progress } from "../progress.ts";
import { OURS, type Result, resultOf } from "../result.ts";
import { agent } from "./agent.ts";
import { vmmCriStart } from "./vmm_cri_start.ts";
import { vmmFiles } from "./vmm_files.ts";
import { vmmMemoryUse } from "./vmm_memory.ts";
import { vmmParallel } from "./vmm_parallel.ts";
import { vmmStart } from "./vmm_start.ts";
import { vmmStdio } from "./vmm_stdio.ts";

/**
 * Long ones are tried by `QUASAUR_LONG_TESTS=1 deno task test bench/cases/vmm_cases_test.ts`: each
 * starts dozens of machines, and says only what the benchmark itself would.
 */
const ignore = Deno.env.get("QUASAUR_LONG_TESTS") !== "1";

/** What one round of a benchmark comes to, by name; every value is a number above 0. */
async function oneRound(benchmark: Benchmark): Promise<Map<string, Result>> {
  const output = { isTerminal: () => false, writeSync: (bytes: Uint8Array) => bytes.length };
  const { signal } = new AbortController();
  const measured = await benchmark({ signal, progress: new Progress(output), runs: 1 });
  const results = measured.map((one) => resultOf(one, "vmm"));
  for (const { name, ours, peers } of results) {
    for (const [who, { p50 }] of Object.entries({ [OURS]: ours, ...peers })) {
      assert.ok(p50 > 0, `"${name}" of "${who}" is ${p50}`);
    }
  }
  return new Map(results.map((result) => [result.name, result]));
}

function median(results: ReadonlyMap<string, Result>, name: string): number {
  const result = results.get(name);
  assert.ok(result !== undefined, `"${name}" is not among ${[...results.keys()].join(", ")}`);
  return result.ours.p50;
}

Deno.test("vmm-start times every step, and its steps are the whole", async () => {
  const results = await oneRound(vmmStart);
  const steps = [
    "VMM runs",
    "agent answers",
    "identity set",
    "root file system attached",
    "container created",
    "container started",
    "first output",
  ].map((name) => median(results, `vmm start: ${name}`));
  const whole = median(results, "vmm start, from the pool: first output");
  assert.ok(Math.abs(steps.reduce((sum, one) => sum + one, 0) - whole) < 1e-6);
  assert.deepEqual(Object.keys(results.get("vmm start, booted: agent answers")?.peers ?? {}), [
    "bare QEMU",
  ]);
});

Deno.test("vmm-cri-start measures the whole and its parts for everybody", { ignore }, async () => {
  const results = await oneRound(vmmCriStart);
  const parts = ["RunPodSandbox", "CreateContainer", "StartContainer"]
    .map((name) => median(results, `vmm CRI start: ${name}`));
  const whole = median(results, "vmm CRI start");
  assert.ok(Math.abs(parts.reduce((sum, one) => sum + one, 0) - whole) < 1e-6);
  const peers = Object.keys(results.get("vmm CRI start")?.peers ?? {});
  assert.deepEqual(peers, ["ours, cloned", "ours, booted", "runc"]);
});

Deno.test("vmm-parallel starts and removes pods of both", { ignore }, async () => {
  const results = await oneRound(vmmParallel);
  assert.deepEqual([...results.keys()], ["2 vmm pods: start", "2 vmm pods: stop and remove"]);
});

Deno.test("vmm-memory tells clones, pool, template and sandboxer apart", { ignore }, async () => {
  const { signal } = new AbortController();
  const output = { isTerminal: () => false, writeSync: (bytes: Uint8Array) => bytes.length };
  const measured = await vmmMemoryUse({ signal, progress: new Progress(output), runs: 1 });
  const results = new Map(measured.map((one) => [one.name, resultOf(one, "vmm")]));
  const pooled = median(results, "vmm memory, in the pool: beyond the template");
  const idle = median(results, "vmm memory, pod without containers: beyond the template");
  const busy = median(results, "vmm memory, pod with a container: beyond the template");
  assert.ok(0 < pooled && 0 < idle && idle < busy, `${pooled}, ${idle}, ${busy}`);
  assert.ok(median(results, "vmm memory, template, once for all pods") > 0);
  assert.ok(median(results, "vmm memory, no pods: sandboxer") > 0);
});

Deno.test("vmm-stdio moves bytes both ways and runs execs", async () => {
  const results = await oneRound(vmmStdio);
  const units = [...results.values()].map(({ unit }) => unit);
  assert.deepEqual(units, ["MB/s", "MB/s", "MB/s", "ms", "ms"]);
});

Deno.test("vmm-files compares both ways to have files", { ignore }, async () => {
  const results = await oneRound(vmmFiles);
  assert.equal(results.size, 4);
  for (const { peers } of results.values()) {
    assert.deepEqual(Object.keys(peers), ["ours, virtiofs", "runc"]);
  }
});

Deno.test("agent looks at the agent in the image and in a guest", async () => {
  const results = await oneRound(agent);
  assert.deepEqual([...results.values()].map(({ unit }) => unit), ["MB", "MB", "MB"]);
});
