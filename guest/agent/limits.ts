/**
 * Limits of a container: from OCI's `linux.resources` to the files of cgroup v2, with the same
 * conversions as crun, so that a changed limit means what it means at creation.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { Json, JsonObject } from "../protocol/messages.ts";
import type { LimitWrite } from "./cgroups.ts";
import { isObject, objectAt } from "./json_values.ts";

/**
 * What has to be written for a change of limits. Fields that are missing stay as they are.
 *
 * @param resources OCI's `linux.resources`.
 * @param currentCpuMax The container's cpu.max, such as `max 100000`.
 * @throws AgentError `InvalidArgument` for what is not a number.
 */
export function limitWrites(resources: JsonObject, currentCpuMax: string): LimitWrite[] {
  return [
    ...cpuWrites(objectAt(resources, "cpu"), currentCpuMax),
    ...memoryWrites(objectAt(resources, "memory")),
    ...pidsWrites(objectAt(resources, "pids")),
    ...hugePageWrites(resources["hugepageLimits"]),
    ...unifiedWrites(objectAt(resources, "unified")),
  ];
}

/**
 * The weight of cgroup v2 for the shares of v1: a quadratic curve through both ends and the default
 * (1024 shares are a weight of 100), as crun and systemd have it.
 *
 * @param shares 2 to 262144.
 */
export function weightOfShares(shares: number): number {
  if (shares <= 2) return 1;
  if (shares >= 262_144) return 10_000;
  const log = Math.log2(shares);
  return Math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34));
}

function cpuWrites(cpu: JsonObject, currentCpuMax: string): LimitWrite[] {
  const writes: LimitWrite[] = [];
  const shares = numberOf(cpu, "shares");
  if (shares !== undefined && shares > 0) {
    writes.push(write("cpu.weight", weightOfShares(shares)));
  }
  const quota = numberOf(cpu, "quota");
  const period = numberOf(cpu, "period");
  if (quota !== undefined || (period !== undefined && period > 0)) {
    const [oldQuota = "max", oldPeriod = "100000"] = currentCpuMax.trim().split(" ");
    const newQuota = quota === undefined ? oldQuota : quota > 0 ? quota : "max";
    writes.push(write("cpu.max", `${newQuota} ${period || oldPeriod}`));
  }
  const burst = numberOf(cpu, "burst");
  if (burst !== undefined) writes.push(write("cpu.max.burst", burst, true));
  const idle = numberOf(cpu, "idle");
  if (idle !== undefined) writes.push(write("cpu.idle", idle, true));
  return writes;
}

function memoryWrites(memory: JsonObject): LimitWrite[] {
  const writes: LimitWrite[] = [];
  const limit = numberOf(memory, "limit");
  const swap = numberOf(memory, "swap");
  const reservation = numberOf(memory, "reservation");
  if (limit !== undefined && limit !== 0) writes.push(write("memory.max", bytesOrMax(limit)));
  if (swap !== undefined && swap !== 0) {
    // OCI counts memory and swap together, cgroup v2 swap alone.
    if (swap > 0 && (limit === undefined || swap < limit)) {
      throw new AgentError(
        "InvalidArgument",
        `cannot limit memory and swap to ${swap} bytes: a memory limit that is not above is needed`,
      );
    }
    writes.push(write("memory.swap.max", swap < 0 ? "max" : swap - (limit ?? 0), true));
  }
  if (reservation !== undefined && reservation !== 0) {
    writes.push(write("memory.low", bytesOrMax(reservation)));
  }
  return writes;
}

function pidsWrites(pids: JsonObject): LimitWrite[] {
  const limit = numberOf(pids, "limit");
  return limit === undefined ? [] : [write("pids.max", limit > 0 ? limit : "max")];
}

function hugePageWrites(limits: Json | undefined): LimitWrite[] {
  if (!Array.isArray(limits)) return [];
  return limits.flatMap((entry: Json) => {
    if (!isObject(entry)) return [];
    const size = entry["pageSize"];
    const limit = numberOf(entry, "limit");
    if (typeof size !== "string" || !/^\d+[KMG]B$/.test(size) || limit === undefined) return [];
    return [write(`hugetlb.${size}.max`, limit, true)];
  });
}

function unifiedWrites(unified: JsonObject): LimitWrite[] {
  return Object.entries(unified).map(([file, value]) => {
    if (!/^[a-z0-9]+(\.[a-zA-Z0-9_]+)+$/.test(file) || typeof value !== "string") {
      throw new AgentError("InvalidArgument", `cannot set "${file}": not a file of cgroup v2`);
    }
    return write(file, value);
  });
}

function write(file: string, value: string | number, optional = false): LimitWrite {
  return { file, value: String(value), optional };
}

function bytesOrMax(bytes: number): number | "max" {
  return bytes < 0 ? "max" : bytes;
}

function numberOf(parent: JsonObject, key: string): number | undefined {
  const value = parent[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number" && Number.isSafeInteger(value)) return value;
  throw new AgentError("InvalidArgument", `cannot set the limit "${key}": it is not a number`);
}
