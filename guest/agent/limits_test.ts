import assert from "node:assert/strict";
import { AgentError } from "../protocol/agent_error.ts";
import { parseCounts } from "./cgroups.ts";
import { limitWrites, weightOfShares } from "./limits.ts";

/** `file=value` of each write, `?` behind those that may be missing. */
function writes(resources: Parameters<typeof limitWrites>[0], cpuMax = "max 100000\n"): string[] {
  return limitWrites(resources, cpuMax).map(({ file, value, optional }) =>
    `${file}${optional ? "?" : ""}=${value}`
  );
}

Deno.test("shares become weights with both ends and the default where they belong", () => {
  assert.deepEqual([0, 2, 1024, 262_144, 1e9].map(weightOfShares), [1, 1, 100, 10_000, 10_000]);
  for (let shares = 3; shares < 262_144; shares *= 2) {
    assert.ok(weightOfShares(shares) <= weightOfShares(shares * 2));
  }
});

Deno.test("every limit that was given is written, and no other", () => {
  assert.deepEqual(writes({}), []);
  assert.deepEqual(
    writes({
      cpu: { shares: 1024, quota: 20_000, period: 50_000, burst: 10, idle: 1, cpus: "0-3" },
      memory: { limit: 1000, swap: 1500, reservation: 500 },
      pids: { limit: 7 },
      hugepageLimits: [{ pageSize: "2MB", limit: 4 }, { pageSize: "../x", limit: 4 }],
      unified: { "memory.high": "800" },
    }),
    [
      "cpu.weight=100",
      "cpu.max=20000 50000",
      "cpu.max.burst?=10",
      "cpu.idle?=1",
      "memory.max=1000",
      "memory.swap.max?=500",
      "memory.low=500",
      "pids.max=7",
      "hugetlb.2MB.max?=4",
      "memory.high=800",
    ],
  );
});

Deno.test("one half of the CPU limit leaves the other as it is", () => {
  assert.deepEqual(writes({ cpu: { quota: 5000 } }, "max 70000\n"), ["cpu.max=5000 70000"]);
  assert.deepEqual(writes({ cpu: { period: 9000 } }, "3000 70000\n"), ["cpu.max=3000 9000"]);
  assert.deepEqual(writes({ cpu: { quota: -1 } }, "3000 70000\n"), ["cpu.max=max 70000"]);
});

Deno.test("a limit below zero is none", () => {
  assert.deepEqual(writes({ memory: { limit: -1, swap: -1 }, pids: { limit: -1 } }), [
    "memory.max=max",
    "memory.swap.max?=max",
    "pids.max=max",
  ]);
});

Deno.test("limits that cannot be are refused", () => {
  const wrong = [
    { memory: { swap: 100 } },
    { memory: { limit: 200, swap: 100 } },
    { cpu: { quota: "much" } },
    { cpu: { shares: 1.5 } },
    { unified: { "../cgroup.kill": "1" } },
    { unified: { "memory.max": 5 } },
  ];
  for (const resources of wrong) {
    assert.throws(
      () => writes(resources),
      (error) => error instanceof AgentError && error.code === "InvalidArgument",
      JSON.stringify(resources),
    );
  }
});

Deno.test("counts of the kernel are read by their names", () => {
  assert.deepEqual(parseCounts("low 0\noom_kill 3\n\nnonsense\n"), { low: 0, oom_kill: 3 });
});
