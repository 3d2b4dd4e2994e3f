/**
 * Limits of a pod in gVisor. Only the sandbox as a whole is a thing of the host that can be limited,
 * so a container's limits count together with those of its neighbours.
 *
 * @module
 */

import type { ResourceSpec } from "../../lifecycle/spec.ts";

/** What a sandbox with one container that does nothing takes by itself, in bytes. */
const OVERHEAD_BYTES = 12 << 20;
/** The period that quotas are added up for, in microseconds. */
const PERIOD_US = 100_000;
/** cpu.shares of a container that says nothing. */
const SHARES_MIN = 2;
const SHARES_MAX = 262_144;

/**
 * The limits of a sandbox: those of its pod, and where it has none, those of its containers added up,
 * if all of them have some. Numbers of processes are not limited: gVisor's are none of the host's.
 *
 * @param pod What the pod asks for.
 * @param containers What its containers ask for.
 */
export function podLimits(pod: ResourceSpec, containers: readonly ResourceSpec[]): ResourceSpec {
  const memory = pod.memoryBytes ?? sum(containers.map(({ memoryBytes }) => memoryBytes));
  const quota = quotaOf(pod) ?? sum(containers.map(quotaOf));
  const shares = pod.cpuShares ?? sum(containers.map(({ cpuShares }) => cpuShares));
  const cpus = pod.cpusetCpus ?? common(containers.map(({ cpusetCpus }) => cpusetCpus));
  return {
    ...(memory === undefined ? {} : { memoryBytes: memory + OVERHEAD_BYTES }),
    ...(quota === undefined ? {} : { cpuQuotaUs: quota, cpuPeriodUs: PERIOD_US }),
    ...(shares === undefined
      ? {}
      : { cpuShares: Math.min(Math.max(shares, SHARES_MIN), SHARES_MAX) }),
    ...(cpus === undefined ? {} : { cpusetCpus: cpus }),
  };
}

/** A quota per {@link PERIOD_US}; undefined for none. */
function quotaOf({ cpuQuotaUs, cpuPeriodUs = PERIOD_US }: ResourceSpec): number | undefined {
  if (cpuQuotaUs === undefined || cpuQuotaUs <= 0 || cpuPeriodUs <= 0) return undefined;
  return Math.ceil(cpuQuotaUs * PERIOD_US / cpuPeriodUs);
}

/** Undefined where there are none, or one has no limit. */
function sum(values: readonly (number | undefined)[]): number | undefined {
  let total = 0;
  for (const value of values) {
    if (value === undefined || value <= 0) return undefined;
    total += value;
  }
  return values.length === 0 ? undefined : total;
}

/** What all of them say. */
function common(values: readonly (string | undefined)[]): string | undefined {
  const [first, ...rest] = values;
  return first !== "" && rest.every((value) => value === first) ? first : undefined;
}
