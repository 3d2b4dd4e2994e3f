/**
 * What a sandbox or container uses, as containerd wants to read it: cgroup v2 metrics in an `Any`.
 * The Sandbox API (Metrics) and the Task API (Stats) both answer with this, on hosts with cgroup v1
 * too: containerd decodes by the type's name.
 *
 * @module
 */

import { create, toBinary } from "@bufbuild/protobuf";
import { type Any, AnySchema } from "@bufbuild/protobuf/wkt";
import { MetricsSchema } from "../proto/gen/io/containerd/cgroups/v2/metrics_pb.ts";
import type { Stats } from "./lifecycle/spec.ts";

/**
 * How cgroup v2 spells "no limit" in numbers. CRI subtracts the memory in use from the limit, so 0
 * would come out as an absurd amount of free memory (containerd `isMemoryUnlimited`).
 */
const UNLIMITED = 2n ** 64n - 1n;

/**
 * Packs stats as `io.containerd.cgroups.v2.Metrics`.
 *
 * Memory in use is reported both as `usage` (the working set, as no part of it is inactive file
 * cache) and as `anon` (what CRI shows as RSS).
 *
 * @param stats What was measured.
 * @returns An `Any` without a "type.googleapis.com/" prefix, as containerd writes its own.
 */
export function cgroupMetrics(stats: Stats): Any {
  const memory = count(stats.memoryBytes);
  const { memoryLimitBytes } = stats;
  const metrics = create(MetricsSchema, {
    pids: { current: count(stats.pids) },
    cpu: { usageUsec: count(stats.cpuNs / 1000) },
    memory: {
      anon: memory,
      usage: memory,
      usageLimit: memoryLimitBytes === undefined ? UNLIMITED : count(memoryLimitBytes),
    },
  });
  return create(AnySchema, {
    typeUrl: MetricsSchema.typeName,
    value: toBinary(MetricsSchema, metrics),
  });
}

/** A measured number as an unsigned integer; what is not a count becomes 0. */
function count(value: number): bigint {
  return Number.isFinite(value) && value > 0 ? BigInt(Math.floor(value)) : 0n;
}
