/**
 * The cgroups of wasm pods and containers. Guests are threads of one process, and threads can be in
 * cgroups of their own as far as CPU, CPU sets, process counts and freezing go; memory cannot.
 *
 * A cgroup is made when there is something for it to do: a limit, or a pause. Pods and containers
 * without limits have none and cost nothing.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import type { CgroupFiles } from "./files.ts";
import { isFrozen, thaw } from "./freezer.ts";
import {
  directoryOf,
  type Group,
  groupName,
  membersFile,
  removeGroup,
  removeIfEmpty,
} from "./groups.ts";
import { type Controller, findHierarchies, type Hierarchy, hierarchyOf } from "./hierarchies.ts";
import { PodCgroup } from "./pod_cgroup.ts";

/** The directory of ours in each hierarchy. */
const DIRECTORY = "quasaur";

/** How long a process that was killed while frozen may take to end once it is thawed. */
const THAW_WAIT_MS = 2_000;
const THAW_INTERVAL_MS = 10;

/** What {@link Cgroups} works with. */
export interface CgroupsOptions {
  /** The files. */
  readonly files: CgroupFiles;
  /** Where notes go. */
  readonly log: Log;
  /**
   * What happens to a limit that cannot be kept on this host, such as a CPU quota without root's
   * rights: `refuse` (default), or `note` in the log and go on without it.
   */
  readonly unavailable?: "refuse" | "note";
  /** The directory in each hierarchy for pods without a cgroup of their own (default `quasaur`). */
  readonly directory?: string;
  /** The hierarchies of this host; default: found when they are first needed. */
  readonly hierarchies?: readonly Hierarchy[];
}

/** Makes the cgroups of one sandboxer. */
export class Cgroups {
  /** The files. */
  readonly files: CgroupFiles;
  /** Where notes go. */
  readonly log: Log;
  readonly #unavailable: "refuse" | "note";
  readonly #directory: string;
  #hierarchies: readonly Hierarchy[] | undefined;

  /** Nothing is looked at yet. */
  constructor(options: CgroupsOptions) {
    this.files = options.files;
    this.log = options.log;
    this.#unavailable = options.unavailable ?? "refuse";
    this.#directory = options.directory ?? DIRECTORY;
    this.#hierarchies = options.hierarchies;
  }

  /** The hierarchies of this host. */
  get hierarchies(): readonly Hierarchy[] {
    this.#hierarchies ??= findHierarchies(this.files);
    return this.#hierarchies;
  }

  /** The hierarchy in which something is controlled; undefined where it cannot be. */
  hierarchyOf(controller: Controller): Hierarchy | undefined {
    return hierarchyOf(this.hierarchies, controller);
  }

  /**
   * The cgroup of a pod, made as far as it is needed.
   *
   * @throws {SandboxError} `InvalidArgument` for limits that make no sense; `FailedPrecondition` for
   *   such as cannot be kept here.
   */
  openPod(spec: Pick<SandboxSpec, "id" | "cgroupParent" | "resources">): PodCgroup {
    return PodCgroup.open(this, spec);
  }

  /** Our own directory in a hierarchy. */
  base(hierarchy: Hierarchy): Group {
    const above = hierarchy.version === 2 ? hierarchy.own : "";
    return { hierarchy, path: `${above}/${this.#directory}` };
  }

  /**
   * What to do about a limit that cannot be kept.
   *
   * @param limit What it limits and for whom, such as `the CPU quota of container "web"`.
   * @param reason Why not.
   * @throws {SandboxError} `FailedPrecondition`, unless such limits are only noted.
   */
  cannotKeep(limit: string, reason: string): void {
    if (this.#unavailable === "note") {
      this.log.warn("limit not kept", { limit, reason });
      return;
    }
    throw new SandboxError(
      "FailedPrecondition",
      `cannot keep ${limit}: ${reason}: run the sandboxer as root on a host with writable cgroups`,
    );
  }

  /**
   * Removes what an earlier process left of a pod. None of its guests may run.
   *
   * @param containerIds Its containers.
   */
  async removeLeft(
    spec: Pick<SandboxSpec, "id" | "cgroupParent">,
    containerIds: readonly string[],
  ): Promise<void> {
    const containers = this.hierarchies.flatMap((hierarchy) =>
      this.#leftOf(hierarchy, spec, containerIds)
    );
    // A frozen thread cannot end, and stays in its cgroups of all hierarchies.
    for (const group of containers) {
      if (isFrozen(this.files, group)) thaw(this.files, group);
    }
    for (const group of containers) await removeGroup(this.files, group);
    for (const hierarchy of this.hierarchies) {
      const base = this.base(hierarchy);
      await removeGroup(this.files, { hierarchy, path: `${base.path}/${groupName(spec.id)}` });
      removeIfEmpty(this.files, base);
    }
  }

  /** The cgroups of containers that may be left in a hierarchy. */
  #leftOf(
    hierarchy: Hierarchy,
    { id, cgroupParent }: Pick<SandboxSpec, "id" | "cgroupParent">,
    containerIds: readonly string[],
  ): Group[] {
    const pod = `${this.base(hierarchy).path}/${groupName(id)}`;
    const own = this.files.directories(directoryOf({ hierarchy, path: pod }))
      .map((name) => ({ hierarchy, path: `${pod}/${name}` }));
    if (hierarchy.version === 2 || cgroupParent === "") return own;
    const given = containerIds.map((containerId) => ({
      hierarchy,
      path: `${cgroupParent}/${groupName(containerId)}`,
    }));
    return [...own, ...given];
  }

  /**
   * Lets processes die that were killed while threads of theirs were frozen: with version 1 they
   * cannot until they are thawed, and keep all that they have open, such as a lock. Call it before
   * anything that such a process may hold is needed.
   */
  async thawDying(): Promise<void> {
    const hierarchy = this.hierarchyOf("freezer");
    if (hierarchy?.version !== 1) return;
    const base = this.base(hierarchy);
    for (const pod of this.files.directories(directoryOf(base))) {
      for (const name of this.files.directories(`${directoryOf(base)}/${pod}`)) {
        await this.#thawIfDying({ hierarchy, path: `${base.path}/${pod}/${name}` });
      }
    }
  }

  async #thawIfDying(group: Group): Promise<void> {
    if (!isFrozen(this.files, group)) return;
    if (!this.#members(group).some((tid) => this.#isDying(tid))) return;
    this.log.info("thawing what a killed process left frozen", { cgroup: group.path });
    thaw(this.files, group);
    const end = performance.now() + THAW_WAIT_MS;
    while (this.#members(group).length > 0 && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, THAW_INTERVAL_MS));
    }
  }

  #members(group: Group): readonly string[] {
    const text = this.files.read(`${directoryOf(group)}/${membersFile(group)}`) ?? "";
    return text.split("\n").filter((line) => line !== "");
  }

  /** Whether the process of a thread has ended but for threads that cannot. */
  #isDying(tid: string): boolean {
    const [, tgid] = /^Tgid:\s*(\d+)$/m.exec(this.files.read(`/proc/${tid}/status`) ?? "") ?? [];
    if (tgid === undefined) return false;
    return /^State:\s*[ZX]/m.test(this.files.read(`/proc/${tgid}/status`) ?? "");
  }
}
