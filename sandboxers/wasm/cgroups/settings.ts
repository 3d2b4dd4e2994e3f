/**
 * Limits as the values that the kernel wants in the files of a cgroup, in the words of version 1 and
 * version 2; and what is wrong with limits, found before anything is written.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { ResourceSpec } from "../../lifecycle/spec.ts";
import type { Controller } from "./hierarchies.ts";

/** One value for one file of a cgroup. */
export interface Setting {
  /** The controller whose file it is. */
  readonly controller: Controller;
  /** The file's name. */
  readonly file: string;
  /** What is written to it. */
  readonly value: string;
  /** The limit that it stands for, for messages. */
  readonly limit: string;
}

/** The kernel's bounds for quota and period in microseconds (Documentation/scheduler/sched-bwc). */
const QUOTA_MIN_US = 1_000;
const PERIOD_MIN_US = 1_000;
const PERIOD_MAX_US = 1_000_000;
/** The kernel's default period. */
const PERIOD_DEFAULT_US = 100_000;
/** The kernel's bounds for cpu.shares. */
const SHARES_MIN = 2;
const SHARES_MAX = 262_144;
const SHARES_DEFAULT = 1_024;
/** The highest number of a CPU that is looked at. */
const CPU_MAX = 8_191;

/** The limits that cgroups keep, by the controller that keeps them. */
const FIELDS: Readonly<Record<"cpu" | "cpuset" | "pids", readonly (keyof ResourceSpec)[]>> = {
  cpu: ["cpuQuotaUs", "cpuShares"],
  cpuset: ["cpusetCpus"],
  pids: ["pids"],
};

/** The controllers that it takes to keep limits. */
export function controllersFor(resources: ResourceSpec): readonly ("cpu" | "cpuset" | "pids")[] {
  const names = ["cpu", "cpuset", "pids"] as const;
  return names.filter((name) => FIELDS[name].some((field) => resources[field] !== undefined));
}

/**
 * Refuses limits that the kernel would refuse, or would take without keeping them.
 *
 * @param resources The limits.
 * @param what Whose limits, for messages, such as `container "web"`.
 * @throws {SandboxError} `InvalidArgument` naming the limit, what was found and what is expected.
 */
export function checkLimits(resources: ResourceSpec, what: string): void {
  const { cpuQuotaUs, cpuPeriodUs, cpuShares, pids, cpusetCpus } = resources;
  const check = (name: string, value: number | undefined, min: number, max: number) => {
    if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
    throw new SandboxError(
      "InvalidArgument",
      `cannot limit ${what}: ${name} is ${value}, expected ${min} to ${max}`,
    );
  };
  check("the CPU quota in microseconds", cpuQuotaUs, QUOTA_MIN_US, Number.MAX_SAFE_INTEGER);
  check("the CPU period in microseconds", cpuPeriodUs, PERIOD_MIN_US, PERIOD_MAX_US);
  check("the number of CPU shares", cpuShares, 0, Number.MAX_SAFE_INTEGER);
  check("the number of processes", pids, 1, Number.MAX_SAFE_INTEGER);
  if (cpusetCpus !== undefined) cpuList(cpusetCpus, what);
}

/**
 * The CPUs of a list such as `0-1,3` (cpuset(7), List format).
 *
 * @param what Whose, for messages.
 * @throws {SandboxError} `InvalidArgument` when it is something else.
 */
export function cpuList(list: string, what: string): ReadonlySet<number> {
  const cpus = new Set<number>();
  for (const part of list.trim().split(",")) {
    const [, first, last = first] = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim()) ?? [];
    const [from, to] = [Number(first), Number(last)];
    if (first === undefined || to < from || to > CPU_MAX) {
      throw new SandboxError(
        "InvalidArgument",
        `cannot limit ${what}: its CPUs are ${
          JSON.stringify(list)
        }, expected a list such as "0-1,3"`,
      );
    }
    for (let cpu = from; cpu <= to; cpu++) cpus.add(cpu);
  }
  return cpus;
}

/**
 * Limits as settings.
 *
 * @param version The cgroup version.
 * @param resources Checked by {@link checkLimits}.
 * @param all Also what is not limited, so that an earlier limit goes: for a cgroup that had others.
 */
export function settings(
  version: 1 | 2,
  resources: ResourceSpec,
  all: boolean,
): readonly Setting[] {
  const cpu = version === 1 ? cpuSettingsV1(resources, all) : cpuSettingsV2(resources, all);
  const { pids, cpusetCpus } = resources;
  const out: Setting[] = [...cpu];
  if (pids !== undefined || all) {
    const value = pids === undefined ? "max" : `${pids}`;
    out.push({ controller: "pids", file: "pids.max", value, limit: "the number of processes" });
  }
  // Without a list: in version 2 an empty one means the parent's; in version 1 it is written as such.
  if (cpusetCpus !== undefined) {
    out.push({ controller: "cpuset", file: "cpuset.cpus", value: cpusetCpus, limit: "its CPUs" });
  } else if (all) {
    out.push({ controller: "cpuset", file: "cpuset.cpus", value: "", limit: "its CPUs" });
  }
  return out;
}

function cpuSettingsV1(resources: ResourceSpec, all: boolean): Setting[] {
  const { cpuQuotaUs, cpuPeriodUs, cpuShares } = resources;
  const out: Setting[] = [];
  const add = (file: string, value: string, limit: string) =>
    out.push({ controller: "cpu", file, value, limit });
  // Without a quota first: the kernel compares quota and period with those of the cgroup above.
  if (all) add("cpu.cfs_quota_us", "-1", "the CPU quota");
  if (cpuQuotaUs !== undefined) {
    add("cpu.cfs_period_us", `${cpuPeriodUs ?? PERIOD_DEFAULT_US}`, "the CPU period");
    add("cpu.cfs_quota_us", `${cpuQuotaUs}`, "the CPU quota");
  }
  if (cpuShares !== undefined || all) {
    add("cpu.shares", `${clampShares(cpuShares ?? SHARES_DEFAULT)}`, "the CPU shares");
  }
  return out;
}

function cpuSettingsV2(resources: ResourceSpec, all: boolean): Setting[] {
  const { cpuQuotaUs, cpuPeriodUs = PERIOD_DEFAULT_US, cpuShares } = resources;
  const out: Setting[] = [];
  const add = (file: string, value: string, limit: string) =>
    out.push({ controller: "cpu", file, value, limit });
  if (cpuQuotaUs !== undefined || all) {
    add("cpu.max", `${cpuQuotaUs ?? "max"} ${cpuPeriodUs}`, "the CPU quota");
  }
  if (cpuShares !== undefined || all) {
    const weight = cpuShares === undefined ? 100 : cpuWeight(cpuShares);
    add("cpu.weight", `${weight}`, "the CPU shares");
  }
  return out;
}

/**
 * Shares of version 1 as a weight of version 2, so that 2 to 262144 become 1 to 10000:
 * `1 + ((shares - 2) * 9999) / 262142`. Source: crun(1), "CPU controller", the same as in kubelet's
 * KEP-2254 and in runc up to 1.3.
 */
export function cpuWeight(shares: number): number {
  return 1 + Math.floor(((clampShares(shares) - SHARES_MIN) * 9_999) / (SHARES_MAX - SHARES_MIN));
}

function clampShares(shares: number): number {
  return Math.min(Math.max(shares, SHARES_MIN), SHARES_MAX);
}
