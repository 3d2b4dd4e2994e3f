/**
 * What guests and their containers use, from the agent's words to the lifecycle's.
 *
 * @module
 */

import type { ContainerUsage, GuestUsage } from "../../guest/protocol/messages.ts";
import type { Stats } from "../lifecycle/spec.ts";

/** What a container uses: as CRI counts it, without file cache that nobody has touched lately. */
export function containerStats(usage: ContainerUsage): Stats {
  const { cpuUs, memoryBytes, inactiveFileBytes, memoryLimitBytes, pids } = usage;
  return {
    at: Date.now(),
    cpuNs: cpuUs * 1000,
    memoryBytes: Math.max(0, memoryBytes - inactiveFileBytes),
    ...(memoryLimitBytes === undefined ? {} : { memoryLimitBytes }),
    pids,
  };
}

/** What a guest uses as a whole, with its kernel and agent. */
export function guestStats(usage: GuestUsage): Stats {
  const { cpuUs, memoryTotalBytes, memoryAvailableBytes, containers } = usage;
  return {
    at: Date.now(),
    cpuNs: cpuUs * 1000,
    memoryBytes: Math.max(0, memoryTotalBytes - memoryAvailableBytes),
    memoryLimitBytes: memoryTotalBytes,
    pids: containers.reduce((sum, { pids }) => sum + pids, 0),
  };
}
