/**
 * Reads what memory a process takes. Source: proc(5), /proc/PID/smaps.
 *
 * @module
 */

/** The memory of one or several processes, in MiB. */
export interface ProcessMemory {
  /** The proportional share: a page that several processes map counts in part. */
  readonly pssMiB: number;
  /** All resident pages. */
  readonly rssMiB: number;
  /** Resident pages that belong to no file. */
  readonly anonymousMiB: number;
}

/** One mapping of a process; sizes in KiB. */
export interface Mapping {
  /** The file; empty for anonymous memory. */
  readonly path: string;
  /** The proportional share. */
  readonly pss: number;
  /** What is resident. */
  readonly rss: number;
  /** What of that belongs to no file. */
  readonly anonymous: number;
}

/**
 * Reads a process's memory.
 *
 * @param pid The process.
 */
export async function processMemory(pid: number): Promise<ProcessMemory> {
  return memoryOf(await Deno.readTextFile(`/proc/${pid}/smaps`), () => false);
}

/**
 * The proportional share of several processes together, in MiB. One that has ended counts nothing.
 *
 * @param pids The processes.
 */
export async function totalPssMiB(pids: readonly number[]): Promise<number> {
  const all = await Promise.all(pids.map(async (pid) => {
    return await processMemory(pid).catch((error) => {
      if (error instanceof Deno.errors.NotFound) return { pssMiB: 0 };
      throw error;
    });
  }));
  return all.reduce((sum, { pssMiB }) => sum + pssMiB, 0);
}

/**
 * The processes of pods that have their own: each is the parent of one that names the directory.
 *
 * @param directory The directory that holds the sandboxer's state.
 */
export async function podProcesses(directory: string): Promise<number[]> {
  const pids = new Set<number>();
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const words = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (!words.includes("quasaur-launcher\0pod\0") || !words.includes(`=${directory}/`)) continue;
    const status = await Deno.readTextFile(`/proc/${name}/status`).catch(() => "");
    const parent = Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1] ?? 0);
    for (const pid of [Number(name), parent]) if (pid > 1) pids.add(pid);
  }
  return [...pids];
}

/**
 * Reads a process's memory as if no other process of the same program ran: files that only such
 * processes map count in full. So the share does not get smaller by what else is measured or tested
 * on the machine at the same time, the benchmark itself included.
 *
 * @param pid The process.
 */
export async function loneProcessMemory(pid: number): Promise<ProcessMemory> {
  const foreign = await filesOfOthers(await Deno.readLink(`/proc/${pid}/exe`));
  const isOwn = (path: string) => path.startsWith("/") && !foreign.has(path);
  return memoryOf(await Deno.readTextFile(`/proc/${pid}/smaps`), isOwn);
}

/**
 * Sums the mappings of a process up.
 *
 * @param smaps The text of its smaps file.
 * @param isOwn Whether a file counts in full, whoever else maps it.
 */
export function memoryOf(smaps: string, isOwn: (path: string) => boolean): ProcessMemory {
  const mappings = parseSmaps(smaps);
  const sum = (kib: (mapping: Mapping) => number): number =>
    mappings.reduce((total, mapping) => total + kib(mapping), 0) / 1024;
  return {
    pssMiB: sum(({ path, pss, rss }) => isOwn(path) ? rss : pss),
    rssMiB: sum(({ rss }) => rss),
    anonymousMiB: sum(({ anonymous }) => anonymous),
  };
}

/**
 * The mappings in a smaps file: a line that says what is mapped, then lines with numbers.
 *
 * @param smaps The text of the file.
 */
export function parseSmaps(smaps: string): Mapping[] {
  return smaps.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).filter((text) => text !== "").map((text) => {
    const size = (name: string) =>
      Number(new RegExp(`^${name}: +(\\d+) kB$`, "m").exec(text)?.[1] ?? 0);
    const [head = ""] = text.split("\n", 1);
    return {
      path: mappedPath(head),
      pss: size("Pss"),
      rss: size("Rss"),
      anonymous: size("Anonymous"),
    };
  });
}

/** What a line of a maps or smaps file says is mapped; empty for anonymous memory. */
function mappedPath(line: string): string {
  return /^\S+ +\S+ +\S+ +\S+ +\d+ +(.*)$/.exec(line)?.[1] ?? "";
}

/** The files that processes of other programs than this one map. */
async function filesOfOthers(program: string): Promise<Set<string>> {
  const files = new Set<string>();
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (await Deno.readLink(`/proc/${name}/exe`) === program) continue;
      for (const line of (await Deno.readTextFile(`/proc/${name}/maps`)).split("\n")) {
        files.add(mappedPath(line));
      }
    } catch {
      // It has ended, or is a thread of the kernel.
    }
  }
  return files;
}
