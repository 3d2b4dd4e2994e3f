/**
 * Makes and removes the cgroups that kubelet would make for pods, in every mounted hierarchy
 * (version 1, version 2 or both).
 *
 * @module
 */

import { mountTable } from "./mount_table.ts";

/** The root directories of all hierarchies. */
async function hierarchies(): Promise<string[]> {
  const mounts = await mountTable();
  return mounts.filter(({ type }) => type === "cgroup" || type === "cgroup2")
    .map(({ target }) => target);
}

/**
 * Makes a cgroup.
 *
 * @param path Its path below each hierarchy's root, such as `/bed/pod-1`.
 */
export async function makeCgroup(path: string): Promise<void> {
  for (const root of await hierarchies()) {
    await Deno.mkdir(`${root}${path}`, { recursive: true });
    await inheritCpuset(root, path);
  }
}

/** A version 1 cpuset starts empty and takes no process until it has its parent's CPUs and nodes. */
async function inheritCpuset(root: string, path: string): Promise<void> {
  let directory = root;
  for (const part of path.split("/").filter((name) => name !== "")) {
    for (const file of ["cpuset.cpus", "cpuset.mems"]) {
      const inherited = await Deno.readTextFile(`${directory}/${file}`).catch(() => undefined);
      const own = await Deno.readTextFile(`${directory}/${part}/${file}`).catch(() => undefined);
      if (inherited !== undefined && own?.trim() === "" && inherited.trim() !== "") {
        await Deno.writeTextFile(`${directory}/${part}/${file}`, inherited);
      }
    }
    directory = `${directory}/${part}`;
  }
}

/**
 * Removes a cgroup with all below it. Those that still hold processes stay.
 *
 * @param path Its path below each hierarchy's root.
 */
export async function removeCgroup(path: string): Promise<void> {
  for (const root of await hierarchies()) await removeTree(`${root}${path}`);
}

/** Removes a cgroup directory, the children first: its files cannot be unlinked, only the directory. */
async function removeTree(directory: string): Promise<void> {
  try {
    for await (const { name, isDirectory } of Deno.readDir(directory)) {
      if (isDirectory) await removeTree(`${directory}/${name}`);
    }
    await Deno.remove(directory);
  } catch {
    // It is gone already, or a process is still in it.
  }
}

/**
 * The cgroups, in all hierarchies, that have something in their path.
 *
 * @param text What, such as a pod's id.
 * @returns Their directories.
 */
export async function cgroupsWith(text: string): Promise<string[]> {
  const found: string[] = [];
  for (const root of await hierarchies()) await collect(root, text, found);
  return found;
}

/** Collects directories, the first one included. One that goes away meanwhile does not count. */
async function collect(directory: string, text: string, into: string[]): Promise<void> {
  if (directory.includes(text)) into.push(directory);
  const entries = await Array.fromAsync(Deno.readDir(directory)).catch(() => []);
  for (const { name, isDirectory } of entries) {
    if (isDirectory) await collect(`${directory}/${name}`, text, into);
  }
}

/**
 * The paths of a cgroup's file, such as `cpu.shares`, in all hierarchies that have it.
 *
 * @param path Its path below each hierarchy's root.
 * @param file The file's name.
 */
export async function cgroupFiles(path: string, file: string): Promise<string[]> {
  const paths = (await hierarchies()).map((root) => `${root}${path}/${file}`);
  const there = await Promise.all(
    paths.map((name) => Deno.stat(name).then(() => true, () => false)),
  );
  return paths.filter((_, index) => there[index]);
}
