/**
 * Limits in OCI's words.
 *
 * Source: opencontainers/runtime-spec config-linux.md.
 *
 * @module
 */

import type { ResourceSpec } from "../lifecycle/spec.ts";
import type { JsonObject } from "./json.ts";

/**
 * Limits as OCI's `linux.resources`. CPUs by number are left out: they are the host's.
 *
 * @param limits What is missing stays as it is.
 */
export function resourcesObject(limits: ResourceSpec): JsonObject {
  const { memoryBytes, cpuQuotaUs, cpuPeriodUs, cpuShares, pids } = limits;
  const cpu = defined({ quota: cpuQuotaUs, period: cpuPeriodUs, shares: cpuShares });
  return {
    ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes } }),
    ...(Object.keys(cpu).length === 0 ? {} : { cpu }),
    ...(pids === undefined ? {} : { pids: { limit: pids } }),
  };
}

/** The members that have a value. */
function defined(members: Readonly<Record<string, number | undefined>>): JsonObject {
  const entries = Object.entries(members);
  return Object.fromEntries(
    entries.flatMap(([name, value]) => value === undefined ? [] : [[name, value] as const]),
  );
}
