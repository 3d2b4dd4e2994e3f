/**
 * The cgroups of one pod or one container, one in each hierarchy where it needs one, with their
 * limits.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { ResourceSpec } from "../../lifecycle/spec.ts";
import type { Cgroups } from "./cgroups.ts";
import {
  applySettings,
  checkCpus,
  type Group,
  makeGroup,
  removeGroup,
  removeIfEmpty,
} from "./groups.ts";
import type { Controller, Hierarchy } from "./hierarchies.ts";
import { checkLimits, controllersFor, type Setting, settings } from "./settings.ts";

/** Limits to be kept. */
export interface Limits {
  /** The controllers that they take. */
  readonly controllers: readonly Controller[];
  /** Whether they only weigh: such limits are not worth an error where they cannot be kept. */
  readonly weightsOnly: boolean;
  /** A list of CPUs that must be there. */
  readonly cpus: string | undefined;
  /** Their values; `all` for those too that are not limited. */
  settings(version: 1 | 2, all: boolean): readonly Setting[];
}

/**
 * Limits as a caller asks for them.
 *
 * @param what Whose, for messages.
 * @throws {SandboxError} `InvalidArgument` for values that make no sense.
 */
export function limitsOf(resources: ResourceSpec, what: string): Limits {
  checkLimits(resources, what);
  const { cpuQuotaUs, cpusetCpus, pids } = resources;
  return {
    controllers: controllersFor(resources),
    weightsOnly: cpuQuotaUs === undefined && cpusetCpus === undefined && pids === undefined,
    cpus: cpusetCpus,
    settings: (version, all) => settings(version, resources, all),
  };
}

/** A cgroup that was made, and what is controlled in it. */
interface Made {
  readonly group: Group;
  readonly controllers: Set<Controller>;
}

/** The cgroups of one owner. */
export class LimitedGroups {
  readonly #cgroups: Cgroups;
  readonly #what: string;
  readonly #place: (hierarchy: Hierarchy) => Group | undefined;
  readonly #onMade: (hierarchy: Hierarchy, above: readonly Group[]) => void;
  readonly #made = new Map<Hierarchy, Made>();
  #limits: Limits | undefined;

  /**
   * None yet.
   *
   * @param what Whose, for messages, such as `container "web"`.
   * @param place Where its cgroup is in a hierarchy; undefined where somebody else keeps its limits.
   * @param onMade Hears of each cgroup that is made, and of those above it that had to be made too;
   *   those are not removed here.
   */
  constructor(
    cgroups: Cgroups,
    what: string,
    place: (hierarchy: Hierarchy) => Group | undefined,
    onMade: (hierarchy: Hierarchy, above: readonly Group[]) => void,
  ) {
    this.#cgroups = cgroups;
    this.#what = what;
    this.#place = place;
    this.#onMade = onMade;
  }

  /** Its cgroup in a hierarchy, if it has one. */
  get(hierarchy: Hierarchy): Group | undefined {
    return this.#made.get(hierarchy)?.group;
  }

  /** All its cgroups. */
  all(): readonly Group[] {
    return [...this.#made.values()].map(({ group }) => group);
  }

  /**
   * Makes the cgroup in a hierarchy, without limits.
   *
   * @throws {SandboxError} When it cannot be made.
   */
  make(hierarchy: Hierarchy, controllers: readonly Controller[] = []): Group | undefined {
    const place = this.#place(hierarchy);
    if (place === undefined) return undefined;
    const made = makeGroup(this.#cgroups.files, place, controllers);
    this.#onMade(hierarchy, made.filter(({ path }) => path !== place.path));
    const known = this.#made.get(hierarchy)?.controllers ?? [];
    this.#made.set(hierarchy, { group: place, controllers: new Set([...known, ...controllers]) });
    return place;
  }

  /**
   * Keeps limits in the place of earlier ones; the earlier ones stay where that fails.
   *
   * @returns The cgroups that were made for it: threads have to be moved there.
   * @throws {SandboxError} `InvalidArgument` where the kernel refuses a value; `FailedPrecondition`
   *   where there is no cgroup to keep them.
   */
  keep(limits: Limits): readonly Group[] {
    const before = this.#limits;
    const fresh: Group[] = [];
    try {
      for (const [hierarchy, controllers] of this.#wanted(limits)) {
        const place = this.#place(hierarchy);
        if (place !== undefined && controllers.includes("cpuset")) {
          checkCpus(this.#cgroups.files, place, limits.cpus, this.#what);
        }
        const known = this.#made.get(hierarchy);
        if (known !== undefined && controllers.every((name) => known.controllers.has(name))) {
          continue;
        }
        const group = this.#makeFor(limits, hierarchy, controllers);
        if (group !== undefined && known === undefined) fresh.push(group);
      }
      for (const { group } of this.#made.values()) {
        this.#apply(limits, group, !fresh.includes(group));
      }
      this.#limits = limits;
      return fresh;
    } catch (error) {
      this.#undo(fresh, before);
      throw error;
    }
  }

  /**
   * Removes all its cgroups. No thread may start in them any more.
   *
   * @throws {SandboxError} When threads stay in one; then it can be tried again.
   */
  async remove(): Promise<void> {
    const { files } = this.#cgroups;
    for (const [hierarchy, { group }] of this.#made) {
      await removeGroup(files, group);
      this.#made.delete(hierarchy);
    }
  }

  /** Which hierarchies it takes, and which controllers of each. */
  #wanted(limits: Limits): ReadonlyMap<Hierarchy, readonly Controller[]> {
    const wanted = new Map<Hierarchy, Controller[]>();
    for (const controller of limits.controllers) {
      const hierarchy = this.#cgroups.hierarchyOf(controller);
      if (hierarchy === undefined) {
        this.#cannotKeep(limits, `this host has no cgroups with the controller "${controller}"`);
        continue;
      }
      wanted.set(hierarchy, [...wanted.get(hierarchy) ?? [], controller]);
    }
    return wanted;
  }

  #makeFor(
    limits: Limits,
    hierarchy: Hierarchy,
    controllers: readonly Controller[],
  ): Group | undefined {
    const place = this.#place(hierarchy);
    if (place === undefined) return undefined;
    try {
      return this.make(hierarchy, controllers);
    } catch (error) {
      this.#cannotKeep(limits, SandboxError.from(error).message);
      return undefined;
    }
  }

  #cannotKeep(limits: Limits, reason: string): void {
    if (limits.weightsOnly) {
      this.#cgroups.log.debug("weight not kept", { whose: this.#what, reason });
      return;
    }
    this.#cgroups.cannotKeep(
      `the limits (${limits.controllers.join(", ")}) of ${this.#what}`,
      reason,
    );
  }

  #apply(limits: Limits, group: Group, all: boolean): void {
    const controllers = this.#made.get(group.hierarchy)?.controllers;
    const wanted = limits.settings(group.hierarchy.version, all)
      .filter(({ controller }) => controllers?.has(controller));
    applySettings(this.#cgroups.files, group, wanted, this.#what);
  }

  #undo(fresh: readonly Group[], before: Limits | undefined): void {
    for (const group of fresh) {
      if (removeIfEmpty(this.#cgroups.files, group)) this.#made.delete(group.hierarchy);
    }
    if (before === undefined) return;
    for (const { group } of this.#made.values()) {
      try {
        this.#apply(before, group, true);
      } catch (error) {
        this.#cgroups.log.warn("cannot restore limits", {
          whose: this.#what,
          error: String(error),
        });
      }
    }
  }
}
