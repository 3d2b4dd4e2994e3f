import assert from "node:assert/strict";
import type { Benchmark } from "../benchmark.ts";
import { Progress } from "../progress.ts";
import { OURS, type Result, resultOf } from "../result.ts";
import { quarkCriStart } from "./quark_cri_start.ts";
import { quarkExec } from "./quark_exec.ts";
import { quarkLoops } from "./quark_loops.ts";
import { quarkMemory } from "./quark_memory.ts";
import { quarkParallel } from "./quark_parallel.ts";

/**
 * Long ones are tried by `QUASAUR_LONG_TESTS=1 deno task test bench/cases/quark_cases_test.ts`: each
 * starts several pods, and says only what the benchmark itself would.
 */
const ignore = Deno.env.get("QUASAUR_LONG_TESTS") !== "1";

/** What one round of a benchmark comes to, by name. */
async function oneRound(benchmark: Benchmark): Promise<Map<string, Result>> {
  const output = { isTerminal: () => false, writeSync: (bytes: Uint8Array) => bytes.length };
  const { signal } = new AbortController();
  const measured = await benchmark({ signal, progress: new Progress(output), runs: 1 });
  return new Map(measured.map((one) => [one.name, resultOf(one, "quark")]));
}

/** Expects every value to be above 0. */
function assertPositive(results: ReadonlyMap<string, Result>): void {
  for (const { name, ours, peers } of results.values()) {
    for (const [who, { p50 }] of Object.entries({ [OURS]: ours, ...peers })) {
      assert.ok(p50 > 0, `"${name}" of "${who}" is ${p50}`);
    }
  }
}

function median(results: ReadonlyMap<string, Result>, name: string): number {
  const result = results.get(name);
  assert.ok(result !== undefined, `"${name}" is not among ${[...results.keys()].join(", ")}`);
  return result.ours.p50;
}

Deno.test("quark-cri-start measures the whole and its parts for everybody", async () => {
  const results = await oneRound(quarkCriStart);
  assertPositive(results);
  const parts = ["RunPodSandbox", "CreateContainer", "StartContainer"]
    .map((name) => median(results, `gvisor CRI start: ${name}`));
  const whole = median(results, "gvisor CRI start");
  assert.ok(Math.abs(parts.reduce((sum, one) => sum + one, 0) - whole) < 1e-6);
  const peers = Object.keys(results.get("gvisor CRI start")?.peers ?? {});
  assert.deepEqual(peers, ["runc", "plain runsc"]);
});

Deno.test("quark-exec runs the same by CRI and by runsc", { ignore }, async () => {
  const results = await oneRound(quarkExec);
  assertPositive(results);
  const peers = Object.keys(results.get("gvisor exec of true")?.peers ?? {});
  assert.deepEqual(peers, ["runsc exec", "runc"]);
});

Deno.test("quark-parallel starts and removes pods of everybody", { ignore }, async () => {
  const results = await oneRound(quarkParallel);
  assertPositive(results);
  assert.deepEqual([...results.keys()], ["2 gvisor pods: start", "2 gvisor pods: stop and remove"]);
});

Deno.test("quark-memory tells runsc's processes and ours apart", { ignore }, async () => {
  const results = await oneRound(quarkMemory);
  const empty = median(results, "gvisor memory, pod without containers: runsc's sandbox");
  const busy = median(results, "gvisor memory, pod with a container: runsc's sandbox");
  assert.ok(0 < empty && empty < busy, `${empty}, ${busy}`);
  assert.ok(median(results, "gvisor memory, pod with a container: runsc's gofers") > 0);
  assert.ok(median(results, "gvisor memory, no pods: sandboxer") > 0);
});

Deno.test("quark-loops makes calls and reads and writes files", { ignore }, async () => {
  const results = await oneRound(quarkLoops);
  assertPositive(results);
  const units = [...results.values()].map(({ unit }) => unit);
  assert.deepEqual(new Set(units), new Set(["calls/s", "ms"]));
  for (const { peers } of results.values()) assert.deepEqual(Object.keys(peers), ["runc"]);
});
