/**
 * What the guest uses, and what it can give back: memory, load and CPU time of the whole and of each
 * container; CPUs and memory that were plugged in; memory that is free but was touched.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { ContainerUsage, GuestUsage } from "../protocol/messages.ts";
import { parseCounts } from "./cgroups.ts";
import { systemError } from "./errno.ts";
import { listDirectory, readText, tryReadText } from "./files.ts";
import * as sys from "./sys.js";

/** The kernel counts CPU time in hundredths of a second for programs (USER_HZ). */
const US_PER_TICK = 10_000;

/**
 * What the whole guest uses.
 *
 * @param containers What each container uses.
 */
export function guestUsage(containers: readonly ContainerUsage[]): GuestUsage {
  return {
    ...parseGuest(readText("/proc/meminfo"), readText("/proc/loadavg"), readText("/proc/stat")),
    containers,
  };
}

/**
 * Reads the kernel's own counts.
 *
 * @param meminfo /proc/meminfo.
 * @param loadavg /proc/loadavg.
 * @param stat /proc/stat.
 */
export function parseGuest(
  meminfo: string,
  loadavg: string,
  stat: string,
): Omit<GuestUsage, "containers"> {
  const memory = parseCounts(meminfo.replace(/:\s+/g, " ").replace(/ kB/g, ""));
  // cpu  user nice system idle iowait irq softirq steal guest guest_nice; guest is part of user.
  const ticks = (stat.split("\n")[0] ?? "").trim().split(/\s+/).slice(1, 9).map(Number);
  const [, , , idle = 0, iowait = 0] = ticks;
  const busy = ticks.reduce((sum, tick) => sum + tick, 0) - idle - iowait;
  return {
    memoryTotalBytes: 1024 * (memory["MemTotal"] ?? 0),
    memoryAvailableBytes: 1024 * (memory["MemAvailable"] ?? 0),
    load: Number(loadavg.split(" ")[0] ?? 0),
    cpuUs: US_PER_TICK * busy,
  };
}

/**
 * Makes CPUs and memory that were plugged in usable.
 *
 * @returns How many CPUs there are now.
 * @throws AgentError Where the kernel refuses one.
 */
export function bringOnline(): number {
  const system = "/sys/devices/system";
  for (const name of listDirectory(`${system}/cpu`)) {
    if (/^cpu\d+$/.test(name)) switchOn(`${system}/cpu/${name}/online`, "0", "1");
  }
  for (const name of listDirectory(`${system}/memory`)) {
    if (/^memory\d+$/.test(name)) switchOn(`${system}/memory/${name}/state`, "offline", "online");
  }
  return countCpus(readText(`${system}/cpu/online`));
}

/**
 * How many CPUs are in a list.
 *
 * @param list Such as `0-3,5`.
 */
export function countCpus(list: string): number {
  return list.trim().split(",").filter((range) => range !== "").reduce((sum, range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return sum + last - first + 1;
  }, 0);
}

/** Gives back what memory it can: caches, and holes between what is in use. */
export function giveMemoryBack(): void {
  sys.collectGarbage();
  sys.sync();
  const answers = [
    sys.writeFile("/proc/sys/vm/drop_caches", "3"),
    sys.writeFile("/proc/sys/vm/compact_memory", "1"),
  ];
  const [dropped = 0] = answers;
  if (dropped < 0) throw systemError("cannot drop the caches", dropped);
}

function switchOn(path: string, off: string, on: string): void {
  if (tryReadText(path)?.trim() !== off) return;
  const answer = sys.writeFile(path, on);
  if (answer < 0) {
    throw new AgentError("Internal", systemError(`cannot write "${path}"`, answer).message);
  }
}
