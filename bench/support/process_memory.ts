/**
 * Reads what memory a process takes. Source: proc(5), /proc/PID/smaps and smaps_rollup.
 *
 * @module
 */

/** The memory of one or several processes, in MiB. */
export interface ProcessMemory {
  /** The proportional share: pages that several processes map count in part. */
  readonly pssMiB: number;
  /**
   * The proportional share as it were without other processes of the same program: the pages of the
   * program file count in full. Independent of what else runs, unlike {@link ProcessMemory.pssMiB}.
   */
  readonly alonePssMiB: number;
  /** All resident pages. */
  readonly rssMiB: number;
  /** Resident pages that belong to no file. */
  readonly anonymousMiB: number;
}

/** One mapping of a process, in KiB. */
interface Mapping {
  readonly path: string;
  readonly pss: number;
  readonly rss: number;
  readonly anonymous: number;
}

/**
 * Reads a process's memory.
 *
 * @param pid The process.
 */
export async function processMemory(pid: number): Promise<ProcessMemory> {
  const program = await Deno.readLink(`/proc/${pid}/exe`);
  return memoryOf(await Deno.readTextFile(`/proc/${pid}/smaps`), program);
}

/**
 * Sums the mappings of a process up.
 *
 * @param smaps The text of its smaps file.
 * @param program The path of its program file.
 */
export function memoryOf(smaps: string, program: string): ProcessMemory {
  const mappings = parseSmaps(smaps);
  const sum = (kib: (mapping: Mapping) => number): number =>
    mappings.reduce((total, mapping) => total + kib(mapping), 0) / 1024;
  return {
    pssMiB: sum(({ pss }) => pss),
    alonePssMiB: sum(({ path, pss, rss }) => path === program ? rss : pss),
    rssMiB: sum(({ rss }) => rss),
    anonymousMiB: sum(({ anonymous }) => anonymous),
  };
}

/** The mappings in a smaps file: a line that says what is mapped, then lines with numbers. */
function parseSmaps(smaps: string): Mapping[] {
  return smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).filter((text) => text !== "").map((text) => {
    const size = (name: string) =>
      Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
    const [head = ""] = text.split("\n", 1);
    return {
      path: /^\S+ +\S+ +\S+ +\S+ +\d+ +(.*)$/.exec(head)?.[1] ?? "",
      pss: size("Pss"),
      rss: size("Rss"),
      anonymous: size("Anonymous"),
    };
  });
}
