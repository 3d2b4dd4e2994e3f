/**
 * Which processor compiled code is made for. Code that uses an instruction which another processor
 * lacks would end the process that runs it, so what is said here is a part of every entry's key.
 *
 * @module
 */

import { OPEN } from "../native/syscalls.ts";
import type { System } from "../native/system.ts";

/** Most bytes of /proc/cpuinfo that are read; a processor takes one to two thousand. */
const CPUINFO_BYTES_MAX = 4_194_304;

/** The lines that tell what code can run: of x86-64 the first row, of aarch64 the second. */
const TELLING = new Set([
  ...["vendor_id", "cpu family", "model", "flags"],
  ...["CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features"],
]);

/**
 * Describes the processors of this machine.
 *
 * @param system Reads the file: Deno's own file API may not.
 * @returns Every line that tells something, once, in a fixed order.
 * @throws {SandboxError} When /proc cannot be read.
 */
export async function describeProcessor(system: System): Promise<string> {
  const fd = system.open("/proc/cpuinfo", OPEN.readOnly, "the description of the processor");
  try {
    const bytes = await system.readFile(fd, CPUINFO_BYTES_MAX);
    return tellingLines(new TextDecoder().decode(bytes));
  } finally {
    system.close(fd);
  }
}

/**
 * The lines of a processor's description that matter.
 *
 * @param cpuinfo As in /proc/cpuinfo. Processors that differ, as big and little cores do, each add
 *   theirs.
 */
export function tellingLines(cpuinfo: string): string {
  const lines = new Set<string>();
  for (const line of cpuinfo.split("\n")) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon).trim();
    if (colon > 0 && TELLING.has(name)) lines.add(`${name}: ${line.slice(colon + 1).trim()}`);
  }
  return [Deno.build.arch, ...[...lines].sort()].join("\n");
}
