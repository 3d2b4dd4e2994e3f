/**
 * Limits of a container inside of its machine, whose kernel has cgroup v2 only. What speaks of the
 * host's devices or nodes is left out; which huge pages there are is the guest's to know.
 *
 * Source: opencontainers/runtime-spec config-linux.md, and what crun refuses on cgroup v2.
 *
 * @module
 */

import type { JsonObject } from "../../../guest/protocol/messages.ts";
import { objectOf, only, stringOf } from "../../oci/json.ts";

const KEPT = ["devices", "hugepageLimits", "pids", "unified"];
/** Without `swappiness`, `kernel` and others that are of cgroup v1. */
const KEPT_OF_MEMORY = ["limit", "reservation", "swap", "checkBeforeUpdate"];
/** Without real-time limits, which are of cgroup v1, and `mems`. */
const KEPT_OF_CPU = ["shares", "quota", "period", "burst", "idle"];

/**
 * `linux.resources` of a config.json for the guest.
 *
 * @param resources The object.
 * @param cpus CPUs of the guest.
 */
export function resourcesFor(resources: JsonObject, cpus: number): JsonObject {
  const memory = only(objectOf(resources, "memory"), KEPT_OF_MEMORY);
  const cpu = objectOf(resources, "cpu");
  const set = stringOf(cpu, "cpus");
  const keptCpu = {
    ...only(cpu, KEPT_OF_CPU),
    ...(set !== "" && lastCpu(set) < cpus ? { cpus: set } : {}),
  };
  return {
    ...only(resources, KEPT),
    ...(Object.keys(memory).length === 0 ? {} : { memory }),
    ...(Object.keys(keptCpu).length === 0 ? {} : { cpu: keptCpu }),
  };
}

/** The highest CPU of a list such as `0-1,3`; none for one that is not understood. */
function lastCpu(list: string): number {
  const numbers = list.split(/[,-]/).map((text) => /^\d+$/.test(text.trim()) ? Number(text) : NaN);
  const last = Math.max(...numbers);
  return Number.isNaN(last) ? Infinity : last;
}
