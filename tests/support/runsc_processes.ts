/**
 * Finds the processes that runsc runs for a sandboxer: for each pod one sandbox with its stubs, in
 * which the containers' code runs, and a gofer per container, which opens files. Source: proc(5).
 *
 * @module
 */

/** The processes of one pod. */
export interface RunscSandbox {
  /** The process id of the sandbox. */
  readonly pid: number;
  /** Its command line. */
  readonly words: readonly string[];
  /** The processes of the containers, which the sandbox has started. */
  readonly stubs: readonly number[];
}

/** All that runsc runs for a sandboxer. */
export interface RunscProcesses {
  /** The sandboxes. */
  readonly sandboxes: readonly RunscSandbox[];
  /** The process ids of the gofers. */
  readonly gofers: readonly number[];
}

/**
 * Looks for processes of runsc.
 *
 * @param directory Where they have their state: any `--root` below it counts.
 */
export async function runscProcesses(directory: string): Promise<RunscProcesses> {
  const all = await processes();
  const own = all.filter(({ words }) =>
    words.some((word) => word.startsWith(`--root=${directory}/`))
  );
  // A stub is a copy of the sandbox that never became a program of its own.
  const sentries = own.filter(({ words }) => words[0] === "runsc-sandbox");
  const heads = sentries.filter(({ parent }) => sentries.every(({ pid }) => pid !== parent));
  return {
    sandboxes: heads.map(({ pid, words }) => ({ pid, words, stubs: descendants(all, pid) })),
    gofers: own.filter(({ words }) => words[0] === "runsc-gofer").map(({ pid }) => pid),
  };
}

/** A process that runs. */
interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly words: readonly string[];
}

/** All processes; those of the kernel have no command line. */
async function processes(): Promise<Process[]> {
  const found: Process[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const text = await Deno.readTextFile(`/proc/${name}/cmdline`);
      const status = await Deno.readTextFile(`/proc/${name}/status`);
      found.push({
        pid: Number(name),
        parent: Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1] ?? 0),
        words: text.split("\0").slice(0, -1),
      });
    } catch {
      // It has ended.
    }
  }
  return found;
}

/** The processes that a process has started, and theirs. */
function descendants(all: readonly Process[], pid: number): number[] {
  const children = all.filter(({ parent }) => parent === pid);
  return children.flatMap((child) => [child.pid, ...descendants(all, child.pid)]);
}
