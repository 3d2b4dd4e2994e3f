/**
 * The cgroups of a pod process. As a process of its own it can be counted and limited as a whole, its
 * memory included, which threads of one process cannot; it enters before it becomes the runtime.
 * What its guests need beside that (limits of containers, pausing) they make below directories that
 * are writable for this pod process and no other.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";
import type { Cgroups } from "../cgroups/cgroups.ts";
import { groupName, makeGroup } from "../cgroups/groups.ts";
import type { Hierarchy } from "../cgroups/hierarchies.ts";
import { ERRNO, errnoName, systemError } from "../native/errno.ts";

/**
 * What the runtime in a pod process may take beside its guests, in bytes: it is added to the pod's
 * memory limit.
 */
export const RUNTIME_BYTES = 100_663_296;

const EEXIST = 17;
/** How often the removal of a directory is tried while threads are ending in it. */
const REMOVALS_MAX = 10;

/** The cgroups of one pod process. */
export interface ProcessCgroups {
  /** Directories whose cgroup the process enters. */
  readonly enter: readonly string[];
  /** Roots of hierarchies, which it may read. */
  readonly readable: readonly string[];
  /** Directories below which it may make cgroups. */
  readonly writable: readonly string[];
}

/** Where memory is limited. */
interface MemoryGroup {
  readonly version: 1 | 2;
  readonly directory: string;
}

/** Makes and removes the cgroups of pod processes. */
export class PodCgroups {
  readonly #cgroups: Cgroups;

  /**
   * Makes nothing yet.
   *
   * @param cgroups The files, and the hierarchies of this host.
   */
  constructor(cgroups: Cgroups) {
    this.#cgroups = cgroups;
  }

  /**
   * The name of a pod's own directory in each hierarchy, below which it makes what it needs.
   *
   * @param id The pod's id.
   */
  static directoryName(id: string): string {
    return groupName(`quasaur-${id}`);
  }

  /**
   * Makes the cgroups of a pod process.
   *
   * @param spec The pod.
   * @throws {SandboxError} When one cannot be made, or its limit set; then nothing is left.
   */
  make(spec: SandboxSpec): ProcessCgroups {
    try {
      const { hierarchies } = this.#cgroups;
      const places = hierarchies.map((hierarchy) => this.#makePlace(hierarchy, spec));
      const memory = this.#makeMemory(spec);
      return {
        enter: [...places.flatMap(({ enter }) => enter), ...memory === undefined ? [] : [memory]],
        readable: hierarchies.map(({ root }) => root),
        writable: places.flatMap(({ writable }) => writable),
      };
    } catch (error) {
      this.#removeNow(spec);
      throw error;
    }
  }

  /**
   * Lets what is frozen go on, so that it can be killed: with version 1 a process of which a thread is
   * frozen does not end.
   */
  thaw(spec: SandboxSpec): void {
    const hierarchy = this.#cgroups.hierarchyOf("freezer");
    if (hierarchy?.version === 1) this.#thawTree(this.#ownDirectory(hierarchy, spec));
  }

  #thawTree(directory: string): void {
    const { files } = this.#cgroups;
    for (const name of files.directories(directory)) this.#thawTree(`${directory}/${name}`);
    // Where it is gone, or was not frozen, there is nothing to do.
    files.write(`${directory}/freezer.state`, "THAWED");
  }

  /**
   * Limits the memory of a pod process.
   *
   * @param spec The pod.
   * @param memoryBytes What its guests may take; undefined for no limit.
   * @throws {SandboxError} `FailedPrecondition` when the limit cannot be set, such as one below what
   *   is in use.
   */
  limitMemory(spec: SandboxSpec, memoryBytes: number | undefined): void {
    const group = this.#memoryGroup(spec);
    if (group === undefined) return;
    const [file, unlimited] = group.version === 1
      ? ["memory.limit_in_bytes", "-1"]
      : ["memory.max", "max"];
    const value = memoryBytes === undefined ? unlimited : `${memoryBytes + RUNTIME_BYTES}`;
    const errno = this.#cgroups.files.write(`${group.directory}/${file}`, value);
    if (errno === 0) return;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot limit the memory of sandbox "${spec.id}" in "${group.directory}": ` +
        errnoName(errno),
    );
  }

  /** Whether the kernel has killed a process of the pod because the pod's memory was used up. */
  ranOutOfMemory(spec: SandboxSpec): boolean {
    const group = this.#memoryGroup(spec);
    if (group === undefined) return false;
    const file = group.version === 1 ? "memory.oom_control" : "memory.events";
    const text = this.#cgroups.files.read(`${group.directory}/${file}`) ?? "";
    return /^oom_kill [1-9]/m.test(text);
  }

  /**
   * Removes the cgroups of a pod process that has ended, and what it left below them.
   *
   * @throws {SandboxError} When a thread stays in one; then it can be tried again.
   */
  async remove(spec: SandboxSpec): Promise<void> {
    for (let i = 1;; i++) {
      const left = this.#removeNow(spec);
      if (left === undefined) return;
      if (i >= REMOVALS_MAX) throw systemError(`cannot remove the cgroup "${left}"`, ERRNO.EBUSY);
      await new Promise((resolve) => setTimeout(resolve, 2 ** i));
    }
  }

  /** @returns The first directory that is still in use. */
  #removeNow(spec: SandboxSpec): string | undefined {
    const memory = this.#memoryGroup(spec);
    const directories = this.#cgroups.hierarchies.flatMap((hierarchy) => [
      this.#ownDirectory(hierarchy, spec),
      ...hierarchy.version === 2 && spec.cgroupParent !== "" ? [leafOf(hierarchy, spec)] : [],
    ]);
    const all = [...directories, ...memory === undefined ? [] : [memory.directory]];
    return all.map((directory) => this.#removeTree(directory)).find((left) => left !== undefined);
  }

  #removeTree(directory: string): string | undefined {
    const { files } = this.#cgroups;
    let left: string | undefined;
    for (const name of files.directories(directory)) {
      left ??= this.#removeTree(`${directory}/${name}`);
    }
    const errno = files.removeDirectory(directory);
    return errno === 0 || errno === ERRNO.ENOENT ? left : directory;
  }

  /** What the process enters in a hierarchy, and where its guests may make cgroups. */
  #makePlace(
    hierarchy: Hierarchy,
    spec: SandboxSpec,
  ): { readonly enter: readonly string[]; readonly writable: readonly string[] } {
    const { files } = this.#cgroups;
    const parent = `${hierarchy.root}${spec.cgroupParent}`;
    const isGiven = spec.cgroupParent !== "" && files.read(`${parent}/cgroup.procs`) !== undefined;
    if (hierarchy.version === 2) {
      if (!isGiven) return { enter: [], writable: [this.#makeOwn(hierarchy, spec)] };
      // In version 2 a cgroup with others below it holds no processes itself.
      const leaf = leafOf(hierarchy, spec);
      this.#mkdir(leaf);
      return { enter: [leaf], writable: [leaf] };
    }
    const own = this.#makeOwn(hierarchy, spec);
    const accounted = isGiven &&
      [...hierarchy.controllers].some((controller) => controller !== "freezer");
    // A cpuset without CPUs would take no process: this gives it those of the one above.
    if (accounted && hierarchy.controllers.has("cpuset")) {
      makeGroup(files, { hierarchy, path: spec.cgroupParent }, []);
    }
    return accounted
      ? { enter: [parent], writable: [own, parent] }
      : { enter: [], writable: [own] };
  }

  #makeOwn(hierarchy: Hierarchy, spec: SandboxSpec): string {
    const directory = this.#ownDirectory(hierarchy, spec);
    this.#mkdir(directory);
    return directory;
  }

  #ownDirectory({ version, root, own }: Hierarchy, { id }: SandboxSpec): string {
    return `${root}${version === 2 ? own : ""}/${PodCgroups.directoryName(id)}`;
  }

  /** @returns The directory to enter; undefined where memory is not controlled here. */
  #makeMemory(spec: SandboxSpec): string | undefined {
    const group = this.#memoryGroup(spec);
    if (group === undefined) return undefined;
    if (group.version === 1) this.#mkdir(group.directory);
    if (spec.resources.memoryBytes !== undefined) {
      this.limitMemory(spec, spec.resources.memoryBytes);
    }
    return group.version === 1 ? group.directory : undefined;
  }

  /** Version 1 has a hierarchy for it; in version 2 it is the cgroup that the process enters. */
  #memoryGroup(spec: SandboxSpec): MemoryGroup | undefined {
    const v2 = this.#cgroups.hierarchies.find(({ version }) => version === 2);
    if (v2 !== undefined && spec.cgroupParent !== "") {
      const directory = leafOf(v2, spec);
      const { files } = this.#cgroups;
      if (files.read(`${directory}/memory.max`) !== undefined) return { version: 2, directory };
    }
    const root = this.#memoryRoot();
    if (root === undefined) return undefined;
    const parent = `${root}${spec.cgroupParent}`;
    const isGiven = this.#cgroups.files.read(`${parent}/cgroup.procs`) !== undefined;
    const above = isGiven ? parent : root;
    return { version: 1, directory: `${above}/${PodCgroups.directoryName(spec.id)}` };
  }

  #memoryRoot(): string | undefined {
    const mounts = this.#cgroups.files.read("/proc/self/mountinfo") ?? "";
    const [, root] = /^\S+ \S+ \S+ \/ (\S+) .* - cgroup \S+ (?:\S+,)?memory(?:,\S+)?$/m
      .exec(mounts) ?? [];
    return root;
  }

  #mkdir(directory: string): void {
    const errno = this.#cgroups.files.makeDirectory(directory);
    if (errno !== 0 && errno !== EEXIST) {
      throw systemError(`cannot make the cgroup "${directory}"`, errno);
    }
  }
}

function leafOf({ root }: Hierarchy, { id, cgroupParent }: SandboxSpec): string {
  return `${root}${cgroupParent}/${PodCgroups.directoryName(id)}`;
}
