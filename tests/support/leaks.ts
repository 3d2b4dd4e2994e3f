/**
 * Finds what was left behind: mounts, files, and a process's descriptors and
 * threads. Take a snapshot before and after; {@link leaks} says in words what came to stay.
 *
 * @module
 */

import { mountsBelow } from "./mount_table.ts";

/** What is looked at. */
export interface SnapshotScope {
  /** Directories whose mounts count. */
  readonly mountsBelow?: readonly string[];
  /** Directories whose files count. */
  readonly filesBelow?: readonly string[];
  /** A process whose descriptors and threads count. */
  readonly pid?: number;
}

/** What was there at one moment: for each kind of thing, how often each name occurs. */
export type Snapshot = ReadonlyMap<string, ReadonlyMap<string, number>>;

/**
 * Looks once.
 *
 * @param scope What to look at. Network namespaces of a bed's pods are mounts below its directory.
 */
export async function snapshot(scope: SnapshotScope): Promise<Snapshot> {
  const mounts: string[] = [];
  for (const directory of scope.mountsBelow ?? []) {
    mounts.push(...(await mountsBelow(directory)).map(({ target, type }) => `${target} (${type})`));
  }
  const files: string[] = [];
  for (const directory of scope.filesBelow ?? []) await collectFiles(directory, files);
  return new Map([
    ["mount", count(mounts)],
    ["file", count(files)],
    ["descriptor", count(scope.pid === undefined ? [] : await descriptors(scope.pid))],
    ["thread", count(scope.pid === undefined ? [] : await threads(scope.pid))],
  ]);
}

/**
 * What the second snapshot has more of than the first, one sentence for each.
 *
 * @param before The earlier snapshot.
 * @param after The later one.
 */
export function leaks(before: Snapshot, after: Snapshot): string[] {
  const found: string[] = [];
  for (const [kind, counts] of after) {
    for (const [name, now] of counts) {
      const then = before.get(kind)?.get(name) ?? 0;
      if (now > then) found.push(`${kind} "${name}": ${then} before, ${now} after`);
    }
  }
  return found;
}

/** How often each name occurs. */
function count(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

/** The names in a directory; none when it is not there. */
async function names(directory: string): Promise<string[]> {
  try {
    return await Array.fromAsync(Deno.readDir(directory), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** The paths below a directory. A file that goes away meanwhile does not count. */
async function collectFiles(directory: string, into: string[]): Promise<void> {
  for (const name of await names(directory)) {
    const path = `${directory}/${name}`;
    into.push(path);
    const info = await Deno.lstat(path).catch(() => undefined);
    if (info?.isDirectory) await collectFiles(path, into);
  }
}

/** What the descriptors of a process point at; numbers that differ each time are left out. */
async function descriptors(pid: number): Promise<string[]> {
  const targets: string[] = [];
  for (const name of await names(`/proc/${pid}/fd`)) {
    const target = await Deno.readLink(`/proc/${pid}/fd/${name}`).catch(() => undefined);
    if (target !== undefined) targets.push(target.replace(/\[\d+\]$/, "[*]"));
  }
  return targets;
}

/** The names of a process's threads. */
async function threads(pid: number): Promise<string[]> {
  const found: string[] = [];
  for (const name of await names(`/proc/${pid}/task`)) {
    const text = await Deno.readTextFile(`/proc/${pid}/task/${name}/comm`).catch(() => undefined);
    if (text !== undefined) found.push(text.trim());
  }
  return found;
}
