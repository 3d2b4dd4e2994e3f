/**
 * Limits as the kernel wants them.
 *
 * @module
 */

import assert from "node:assert/strict";
import type { ErrorCode, SandboxError } from "../../lifecycle/errors.ts";
import type { ResourceSpec } from "../../lifecycle/spec.ts";
import { checkLimits, controllersFor, cpuList, cpuWeight, settings } from "./settings.ts";

/** Settings as `file=value`. */
function lines(version: 1 | 2, resources: ResourceSpec, all = false): string[] {
  return settings(version, resources, all).map(({ file, value }) => `${file}=${value}`);
}

/** Matches an error of a code with words. */
function error(code: ErrorCode, words: RegExp) {
  return (thrown: SandboxError) => thrown.code === code && words.test(thrown.message);
}

Deno.test("limits are written in the words of each version", () => {
  const resources = {
    cpuQuotaUs: 20_000,
    cpuPeriodUs: 50_000,
    cpuShares: 512,
    cpusetCpus: "0-1",
    pids: 5,
  };
  assert.deepEqual(lines(1, resources), [
    "cpu.cfs_period_us=50000",
    "cpu.cfs_quota_us=20000",
    "cpu.shares=512",
    "pids.max=5",
    "cpuset.cpus=0-1",
  ]);
  assert.deepEqual(lines(2, resources), [
    "cpu.max=20000 50000",
    "cpu.weight=20",
    "pids.max=5",
    "cpuset.cpus=0-1",
  ]);
});

Deno.test("without limits nothing is written, or what lifts earlier ones", () => {
  assert.deepEqual(lines(1, {}), []);
  assert.deepEqual(lines(2, { memoryBytes: 1 }), []);
  assert.deepEqual(lines(1, {}, true), [
    "cpu.cfs_quota_us=-1",
    "cpu.shares=1024",
    "pids.max=max",
    "cpuset.cpus=",
  ]);
  assert.deepEqual(lines(2, {}, true), [
    "cpu.max=max 100000",
    "cpu.weight=100",
    "pids.max=max",
    "cpuset.cpus=",
  ]);
});

Deno.test("only the controllers that limits need are asked for", () => {
  assert.deepEqual(controllersFor({ memoryBytes: 1, cpuPeriodUs: 100_000 }), []);
  assert.deepEqual(controllersFor({ cpuShares: 2 }), ["cpu"]);
  assert.deepEqual(controllersFor({ cpusetCpus: "0", pids: 1 }), ["cpuset", "pids"]);
});

Deno.test("shares become weights from end to end of the scale", () => {
  assert.deepEqual([0, 2, 1_024, 262_144, 1e9].map(cpuWeight), [1, 1, 39, 10_000, 10_000]);
});

Deno.test("lists of CPUs are read as cpuset(7) writes them", () => {
  assert.deepEqual([...cpuList("0-2,5, 7\n", "x")], [0, 1, 2, 5, 7]);
  for (const list of ["", "a", "3-1", "0-", "-1", "0,,1", "99999"]) {
    assert.throws(() => cpuList(list, "x"), error("InvalidArgument", /expected a list such as/));
  }
});

Deno.test("limits that the kernel would refuse are refused with what is expected", () => {
  const wrong: readonly (readonly [ResourceSpec, RegExp])[] = [
    [{ cpuQuotaUs: 999 }, /container "c": the CPU quota in microseconds is 999, expected 1000 to/],
    [{ cpuQuotaUs: 5_000, cpuPeriodUs: 999 }, /period.*is 999, expected 1000 to 1000000/],
    [{ cpuQuotaUs: 5_000, cpuPeriodUs: 2_000_000 }, /period.*is 2000000/],
    [{ pids: 0 }, /processes is 0/],
    [{ cpusetCpus: "x" }, /its CPUs are "x"/],
  ];
  for (const [resources, words] of wrong) {
    assert.throws(() => checkLimits(resources, 'container "c"'), error("InvalidArgument", words));
  }
  checkLimits({ cpuQuotaUs: 1_000, cpuPeriodUs: 1_000_000, cpuShares: 0, pids: 1 }, "x");
});
