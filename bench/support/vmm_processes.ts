/**
 * Finds the processes of a vmm sandboxer, and reads what memory its machines take. Source: proc(5).
 *
 * @module
 */

import { DEFAULT_HOST_LAUNCHER_PATH } from "../../sandboxers/host/launcher_file.ts";
import { parseSmaps } from "./process_memory.ts";

/** A VMM of a sandboxer. */
export interface VmmProcessFound {
  /** Its process id. */
  readonly pid: number;
  /** The id of its place. */
  readonly id: string;
  /** Whether it was cloned. */
  readonly isClone: boolean;
  /** Whether it belongs to a pod: then it is in the pod's cgroup. */
  readonly isTaken: boolean;
}

/** The memory of a VMM with its guest, in MiB. */
export interface VmmMemory {
  /** The proportional share of all that is not the template's. */
  readonly ownMiB: number;
  /** Pages of the template that it maps and has not written to. */
  readonly templateMiB: number;
}

/**
 * The VMMs of a sandboxer.
 *
 * @param stateDirectory The directory that holds the sandboxer's state.
 */
export async function vmmProcesses(stateDirectory: string): Promise<VmmProcessFound[]> {
  const found: VmmProcessFound[] = [];
  const place = `${stateDirectory}/machines/`;
  for (const { pid, words } of await processes()) {
    const socket = words.find((word) => word.startsWith(`unix:${place}`));
    if (socket === undefined) continue;
    const cgroups = await Deno.readTextFile(`/proc/${pid}/cgroup`).catch(() => "");
    const bed = stateDirectory.split("/").at(-3) ?? "";
    found.push({
      pid,
      id: socket.slice(`unix:${place}`.length).split("/")[0] ?? "",
      isClone: words.includes("-incoming"),
      isTaken: cgroups.includes(`/${bed}/`),
    });
  }
  return found;
}

/**
 * The helpers of a sandboxer that stay beside it: the relay of task calls, the holder of FIFOs.
 *
 * @param pid The sandboxer, which has started them.
 */
export async function sandboxerHelpers(pid: number): Promise<number[]> {
  const helpers: number[] = [];
  for (const { pid: one, words } of await processes()) {
    if (words[0] !== DEFAULT_HOST_LAUNCHER_PATH) continue;
    const status = await Deno.readTextFile(`/proc/${one}/status`).catch(() => "");
    if (Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1]) === pid) helpers.push(one);
  }
  return helpers;
}

/**
 * The file servers of shared trees of a sandboxer, all of their processes.
 *
 * @param stateDirectory The directory that holds the sandboxer's state.
 */
export async function treeServers(stateDirectory: string): Promise<number[]> {
  const all = await processes();
  return all.filter(({ words: [program, ...args] }) => {
    return program?.endsWith("/virtiofsd") && args.some((arg) => arg.includes(stateDirectory));
  }).map(({ pid }) => pid);
}

/**
 * Reads the memory of a VMM. Pages of the template's memory that it has not written to are told
 * apart: they are there once for all clones.
 *
 * @param pid The VMM.
 * @param stateDirectory The directory that holds the sandboxer's state.
 */
export async function vmmMemory(pid: number, stateDirectory: string): Promise<VmmMemory> {
  const smaps = parseSmaps(await Deno.readTextFile(`/proc/${pid}/smaps`));
  let ownKiB = 0;
  let templateKiB = 0;
  for (const { path, pss, rss, anonymous } of smaps) {
    const isTemplate = path.startsWith(`${stateDirectory}/templates/`);
    ownKiB += isTemplate ? anonymous : pss;
    templateKiB += isTemplate ? rss - anonymous : 0;
  }
  return { ownMiB: ownKiB / 1024, templateMiB: templateKiB / 1024 };
}

/** All processes with their command lines; those of the kernel have none. */
async function processes(): Promise<{ readonly pid: number; readonly words: string[] }[]> {
  const found = [];
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const text = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (text !== "") found.push({ pid: Number(name), words: text.split("\0").slice(0, -1) });
  }
  return found;
}
