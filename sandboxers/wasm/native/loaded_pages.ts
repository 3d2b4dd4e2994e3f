/**
 * Memory that starting up touched and that nothing needs again. libwasmedge brings the LLVM library
 * along for its compiler; the dynamic linker reads through 45 MiB of it to bind symbols that the
 * interpreter never calls. Deno itself reads much of its own file once. Those pages are unchanged
 * pages of files, so they can be dropped: one that is needed after all comes back from the page
 * cache.
 *
 * @module
 */

import { OPEN } from "./syscalls.ts";
import type { System } from "./system.ts";

/** Far more than the maps of a process that has just started. */
const SMAPS_BYTES_MAX = 8_388_608;

/** A mapping: what is needed of an entry of /proc/self/smaps, see proc_pid_smaps(5). */
export interface Mapping {
  /** First address. */
  readonly start: number;
  /** Size in bytes. */
  readonly lengthBytes: number;
}

/**
 * Drops what can be dropped of programs and libraries.
 *
 * @param system Makes the system calls.
 * @returns How many bytes of mappings were dropped.
 */
export async function releaseLoadedPages(system: System): Promise<number> {
  const fd = system.open("/proc/self/smaps", OPEN.readOnly, "the memory map of this process");
  let smaps: string;
  try {
    smaps = new TextDecoder().decode(await system.readFile(fd, SMAPS_BYTES_MAX));
  } finally {
    system.close(fd);
  }
  let droppedBytes = 0;
  for (const { start, lengthBytes } of droppable(smaps)) {
    if (system.releasePages(start, lengthBytes)) droppedBytes += lengthBytes;
  }
  return droppedBytes;
}

/**
 * The mappings that lose nothing when their pages are dropped: private ones of a file, not writable,
 * and with no page that was changed (relocated read-only data was, before it became read-only).
 *
 * @param smaps The text of /proc/self/smaps.
 */
export function droppable(smaps: string): Mapping[] {
  const mappings: Mapping[] = [];
  for (const entry of smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m)) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p [0-9a-f]+ \S+ [1-9]\d* +\//.exec(entry);
    if (head === null) continue;
    if (!/^Anonymous: +0 kB$/m.test(entry) || !/^Private_Dirty: +0 kB$/m.test(entry)) continue;
    const start = Number.parseInt(head[1] ?? "", 16);
    const end = Number.parseInt(head[2] ?? "", 16);
    mappings.push({ start, lengthBytes: end - start });
  }
  return mappings;
}
