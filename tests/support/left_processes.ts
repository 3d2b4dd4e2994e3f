/**
 * Finds the processes of a bed that outlive its sandboxers on purpose: VMMs, file servers, relays and
 * holders of FIFOs. At the end of a bed none of them may be there.
 *
 * @module
 */

import { identify, runningPid } from "./process_identity.ts";
import { waitFor } from "./wait.ts";

/** The notes of a sandboxer about processes that do not name its directory. */
const NOTES = ["fifo-holder.json", "task-relay.json"];

/** A process that runs. */
export interface LeftProcess {
  /** Its identity; see `process_identity.ts`. */
  readonly identity: string;
  /** Its command line. */
  readonly command: string;
}

/**
 * The processes whose command line names something in a directory.
 *
 * @param directory An absolute path without links.
 */
export async function processesNaming(directory: string): Promise<LeftProcess[]> {
  const found: LeftProcess[] = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === Deno.pid) continue;
    const text = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (!text.includes(`${directory}/`)) continue;
    const identity = await identify(Number(name));
    if (identity !== undefined) {
      found.push({ identity, command: text.replaceAll("\0", " ").trim() });
    }
  }
  return found;
}

/**
 * Kills the processes of a bed whose sandboxers have ended.
 *
 * @param directory The bed's directory.
 * @param stateDirectories The state directories of its sandboxers.
 * @param graceMs How long they may take to end by themselves, in milliseconds.
 * @returns Those that had to be killed.
 */
export async function killLeftProcesses(
  directory: string,
  stateDirectories: readonly string[],
  graceMs: number,
): Promise<readonly LeftProcess[]> {
  const find = async () => {
    const named = await processesNaming(directory);
    const notes = stateDirectories.flatMap((state) => NOTES.map((note) => `${state}/${note}`));
    return [...named, ...(await Promise.all(notes.map(noted))).flat()];
  };
  const end = performance.now() + graceMs;
  let left = await find();
  while (left.length > 0 && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    left = await find();
  }
  for (const { identity } of left) await killQuietly(identity);
  await waitFor("the processes of a bed to be gone", async () => {
    const running = await Promise.all(left.map(({ identity }) => runningPid(identity)));
    return running.every((pid) => pid === undefined);
  });
  return left;
}

/** The processes that a note names and that still run. */
async function noted(path: string): Promise<LeftProcess[]> {
  const found: LeftProcess[] = [];
  const text = await Deno.readTextFile(path).catch(() => "[]");
  const value: unknown = JSON.parse(text);
  for (const entry of Array.isArray(value) ? value : [value]) {
    const identity = `${entry?.pid} ${entry?.startTime}`;
    if (await runningPid(identity) !== undefined) found.push({ identity, command: path });
  }
  return found;
}

/** Kills a process unless it is gone. */
async function killQuietly(identity: string): Promise<void> {
  const pid = await runningPid(identity);
  try {
    if (pid !== undefined) Deno.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
