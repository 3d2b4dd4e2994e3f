/**
 * The cgroups of a pod.
 *
 * Kubelet makes a cgroup for each pod (`cgroupParent`) and keeps the pod's limits in it. With cgroup
 * version 1 the pod's threads enter that one. With version 2 they cannot, as they are threads of a
 * process elsewhere; they get a cgroup below that process's, with the limits of kubelet's. Pods
 * without such a parent get their own below `quasaur`, when there is something for it to do.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { ResourceSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import type { Cgroups } from "./cgroups.ts";
import { ContainerCgroup } from "./container_cgroup.ts";
import {
  directoryOf,
  exists,
  type Group,
  groupName,
  makeGroup,
  moveThreads,
  openMembers,
  removeGroup,
  removeIfEmpty,
} from "./groups.ts";
import type { Controller, Hierarchy } from "./hierarchies.ts";
import { LimitedGroups, type Limits, limitsOf } from "./limited_groups.ts";
import type { Setting } from "./settings.ts";

/** The controllers for which a pod's threads enter the cgroup that kubelet made. */
const ACCOUNTED: readonly Controller[] = ["cpu", "cpuacct", "cpuset", "pids"];

/** The limits of a cgroup of version 2 that are taken over, and what they are without a limit. */
const COPIED: readonly (Setting & { readonly unlimited: RegExp })[] = [
  { controller: "cpu", file: "cpu.max", value: "", limit: "the CPU quota", unlimited: /^max / },
  { controller: "cpu", file: "cpu.weight", value: "", limit: "the CPU shares", unlimited: /^100$/ },
  { controller: "cpuset", file: "cpuset.cpus", value: "", limit: "its CPUs", unlimited: /^$/ },
];

/** A pod's cgroups. */
export class PodCgroup {
  readonly #cgroups: Cgroups;
  readonly #spec: Pick<SandboxSpec, "id" | "cgroupParent">;
  /** Cgroups of version 1 that somebody else made for the pod, and keeps limits in. */
  readonly #given = new Map<Hierarchy, Group>();
  readonly #own: LimitedGroups;
  /** Made on the way to those of the pod and its containers. */
  readonly #above: Group[] = [];
  /** The hierarchies in which something was made. */
  readonly #touched = new Set<Hierarchy>();
  readonly #containers = new Set<ContainerCgroup>();
  /** By directory, for threads to enter its cgroups: each container's start needs all of them. */
  readonly #descriptors = new Map<string, number>();
  #resources: ResourceSpec;
  #changes = 0;

  private constructor(
    cgroups: Cgroups,
    spec: Pick<SandboxSpec, "id" | "cgroupParent" | "resources">,
  ) {
    this.#cgroups = cgroups;
    this.#spec = spec;
    this.#resources = spec.resources;
    this.#own = new LimitedGroups(
      cgroups,
      this.label,
      (hierarchy) => this.#given.has(hierarchy) ? undefined : this.place(hierarchy),
      (hierarchy, above) => this.onMade(hierarchy, above),
    );
  }

  /** See {@link Cgroups.openPod}. */
  static open(
    cgroups: Cgroups,
    spec: Pick<SandboxSpec, "id" | "cgroupParent" | "resources">,
  ): PodCgroup {
    const pod = new PodCgroup(cgroups, spec);
    try {
      pod.#findGiven();
      pod.#own.keep(pod.#limits());
      return pod;
    } catch (error) {
      for (const group of pod.#above.reverse()) removeIfEmpty(cgroups.files, group);
      throw error;
    }
  }

  /** What to call it in messages. */
  get label(): string {
    return `sandbox "${this.#spec.id}"`;
  }

  /** Grows with each cgroup that threads of the pod would have to be moved to. */
  get changes(): number {
    return this.#changes;
  }

  /** The most processes in it; undefined for no limit. */
  get pidsMax(): number | undefined {
    return this.#resources.pids;
  }

  /** Processes that run in it or are being started. */
  get pids(): number {
    return [...this.#containers].reduce((sum, container) => sum + container.pids, 0);
  }

  /** Where the pod's cgroup is in a hierarchy, whether there is one or not. */
  place(hierarchy: Hierarchy): Group {
    const { id, cgroupParent } = this.#spec;
    // Not where freezing is the only use: kubelet has no use for that, and a later process must find
    // what was left frozen.
    const useParent = hierarchy.version === 1 && cgroupParent !== "" &&
      ACCOUNTED.some((name) => hierarchy.controllers.has(name));
    if (useParent) return { hierarchy, path: cgroupParent };
    return { hierarchy, path: `${this.#cgroups.base(hierarchy).path}/${groupName(id)}` };
  }

  /** The cgroups that threads enter whose container has none of its own in the hierarchy. */
  groups(): readonly Group[] {
    return [...this.#given.values(), ...this.#own.all()];
  }

  /**
   * A descriptor by which threads enter one of {@link PodCgroup.groups}. It stays the pod's.
   *
   * @throws {SandboxError} When it cannot be opened.
   */
  descriptorOf(group: Group): number {
    const directory = directoryOf(group);
    const known = this.#descriptors.get(directory);
    if (known !== undefined) return known;
    const fd = openMembers(this.#cgroups.files, group);
    this.#descriptors.set(directory, fd);
    return fd;
  }

  /**
   * The cgroup of a container, made as far as it is needed.
   *
   * @param id The container's id.
   * @param resources Its limits.
   * @param threads The threads that run in it.
   * @throws {SandboxError} As {@link Cgroups.openPod}.
   */
  openContainer(
    id: string,
    resources: ResourceSpec,
    threads: () => readonly number[],
  ): ContainerCgroup {
    const container: ContainerCgroup = ContainerCgroup.open(
      { cgroups: this.#cgroups, pod: this, id, threads },
      resources,
      () => this.#containers.delete(container),
    );
    this.#containers.add(container);
    return container;
  }

  /**
   * Changes the pod's limits.
   *
   * @throws {SandboxError} As {@link Cgroups.openPod}; then they are as before.
   */
  async update(resources: ResourceSpec): Promise<void> {
    const before = this.#resources;
    this.#resources = resources;
    try {
      await this.#keep();
    } catch (error) {
      this.#resources = before;
      throw error;
    }
  }

  /** Takes over what has changed in the cgroup that kubelet made, where its limits are copied. */
  async copyGiven(): Promise<void> {
    if (this.#copied() !== undefined) await this.#keep();
  }

  async #keep(): Promise<void> {
    const fresh = this.#own.keep(this.#limits());
    if (fresh.length === 0) return;
    this.#changes++;
    for (const group of fresh) {
      for (const container of this.#containers) {
        if (container.has(group.hierarchy)) continue;
        await moveThreads(this.#cgroups.files, group, container.threads());
      }
    }
  }

  /**
   * Removes its cgroups; those that somebody else made stay. Its containers are gone.
   *
   * @throws {SandboxError} When threads stay in one; then it can be tried again.
   */
  async remove(): Promise<void> {
    const { files } = this.#cgroups;
    for (const fd of this.#descriptors.values()) files.close(fd);
    this.#descriptors.clear();
    await this.#own.remove();
    const above = [...this.#above].sort((a, b) => b.path.length - a.path.length);
    for (const group of above) {
      // What only this pod uses is empty as soon as the last thread has left it.
      if (group.path.startsWith(`${this.#cgroups.base(group.hierarchy).path}/`)) {
        await removeGroup(files, group);
      } else removeIfEmpty(files, group);
    }
    // Our own directory goes with the last pod.
    for (const hierarchy of this.#touched) removeIfEmpty(files, this.#cgroups.base(hierarchy));
  }

  /** Keeps in mind that a cgroup of the pod or a container was made, with those above it. */
  onMade(hierarchy: Hierarchy, above: readonly Group[]): void {
    this.#touched.add(hierarchy);
    this.#above.push(...above);
  }

  #findGiven(): void {
    if (this.#spec.cgroupParent === "") return;
    for (const hierarchy of this.#cgroups.hierarchies) {
      const accounted = ACCOUNTED.some((name) => hierarchy.controllers.has(name));
      if (hierarchy.version !== 1 || !accounted) continue;
      const group = this.place(hierarchy);
      if (!exists(this.#cgroups.files, group)) continue;
      // A cpuset without CPUs would take no thread: this gives it those of the one above.
      if (hierarchy.controllers.has("cpuset")) makeGroup(this.#cgroups.files, group, []);
      this.#given.set(hierarchy, group);
    }
  }

  /** What is kept in cgroups of ours. */
  #limits(): Limits {
    const limits = limitsOf(this.#resources, this.label);
    const copied = this.#copied();
    if (copied !== undefined) return copied;
    // Who made the pod's cgroup keeps the limits there.
    const kept = limits.controllers.filter((name) => {
      const hierarchy = this.#cgroups.hierarchyOf(name);
      return hierarchy === undefined || !this.#given.has(hierarchy);
    });
    return { ...limits, controllers: kept };
  }

  /** The limits of kubelet's cgroup of version 2; undefined where there is none. */
  #copied(): Limits | undefined {
    const { cgroupParent } = this.#spec;
    const hierarchy = this.#cgroups.hierarchyOf("cpu");
    if (hierarchy?.version !== 2 || cgroupParent === "") return undefined;
    const { files } = this.#cgroups;
    const directory = `${hierarchy.root}${cgroupParent}`;
    if (files.read(`${directory}/cpu.max`) === undefined) return undefined;
    const found = COPIED.flatMap((setting) => {
      const value = files.read(`${directory}/${setting.file}`)?.trim();
      return value === undefined ? [] : [{ ...setting, value }];
    });
    const limited = found.filter(({ value, unlimited }) => !unlimited.test(value));
    return {
      controllers: [...new Set(limited.map(({ controller }) => controller))],
      weightsOnly: limited.every(({ file }) => file === "cpu.weight"),
      cpus: undefined,
      settings: (_, all) => all ? found : limited,
    };
  }
}

/**
 * Refuses one more process where there are as many as there may be. The kernel does not count here:
 * it asks when a thread is made, not when one enters.
 *
 * @param pids How many there are with the new one.
 * @param what Whose, for messages.
 * @throws {SandboxError} `ResourceExhausted`
 */
export function checkPids(pids: number, max: number | undefined, what: string): void {
  if (max === undefined || pids <= max) return;
  throw new SandboxError(
    "ResourceExhausted",
    `cannot start one more process in ${what}: it has ${pids - 1}, the most it may have`,
  );
}
