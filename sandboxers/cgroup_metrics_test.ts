import { fromBinary } from "@bufbuild/protobuf";
import assert from "node:assert/strict";
import { type Metrics, MetricsSchema } from "../proto/gen/io/containerd/cgroups/v2/metrics_pb.ts";
import { cgroupMetrics } from "./cgroup_metrics.ts";
import type { Stats } from "./lifecycle/spec.ts";

function decode(stats: Stats): Metrics {
  const any = cgroupMetrics(stats);
  assert.equal(any.typeUrl, "io.containerd.cgroups.v2.Metrics");
  return fromBinary(MetricsSchema, any.value);
}

Deno.test("cgroupMetrics() says CPU time in microseconds and memory in bytes", () => {
  const metrics = decode({
    at: 1,
    cpuNs: 1_999_999,
    memoryBytes: 2 ** 40,
    memoryLimitBytes: 2 ** 41,
    pids: 12,
  });
  assert.equal(metrics.cpu?.usageUsec, 1999n);
  assert.equal(metrics.memory?.usage, 2n ** 40n);
  assert.equal(metrics.memory.anon, 2n ** 40n);
  assert.equal(metrics.memory.usageLimit, 2n ** 41n);
  assert.equal(metrics.pids?.current, 12n);
});

Deno.test("cgroupMetrics() says no limit so that containerd does not subtract from it", () => {
  const { memory } = decode({ at: 1, cpuNs: 0, memoryBytes: 5, pids: 1 });
  // containerd's isMemoryUnlimited: more than 1 << 62.
  assert.ok((memory?.usageLimit ?? 0n) > 2n ** 62n);
});

Deno.test("cgroupMetrics() makes 0 of what cannot be counted", () => {
  const metrics = decode({ at: 1, cpuNs: NaN, memoryBytes: -1, pids: Infinity });
  assert.equal(metrics.cpu?.usageUsec, 0n);
  assert.equal(metrics.memory?.usage, 0n);
  assert.equal(metrics.pids?.current, 0n);
});
