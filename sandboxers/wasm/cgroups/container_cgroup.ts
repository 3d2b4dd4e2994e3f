/**
 * The cgroups of a container: its threads enter them by themselves as the first thing they do, so
 * that no instruction of a guest runs outside; a pause freezes them.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { ResourceSpec } from "../../lifecycle/spec.ts";
import { SYSCALL } from "../native/syscalls.ts";
import type { ThreadStep } from "../native/thread_spec.ts";
import type { Cgroups } from "./cgroups.ts";
import { freeze, thaw } from "./freezer.ts";
import {
  directoryOf,
  type Group,
  groupName,
  moveThreads,
  openMembers,
  parentOf,
} from "./groups.ts";
import type { Hierarchy } from "./hierarchies.ts";
import { LimitedGroups, limitsOf } from "./limited_groups.ts";
import { checkPids, type PodCgroup } from "./pod_cgroup.ts";

/** "The thread that writes this": cgroup-v1/cgroups.rst and cgroup-v2.rst. */
const MYSELF = new TextEncoder().encode("0");

/** What a {@link ContainerCgroup} is of. */
export interface ContainerCgroupOwner {
  /** Those of the sandboxer. */
  readonly cgroups: Cgroups;
  /** Its pod's. */
  readonly pod: PodCgroup;
  /** The container's id. */
  readonly id: string;
  /** The threads that run in the container. */
  readonly threads: () => readonly number[];
}

/** One thread's way into the cgroups of its container. Dispose of it when the thread has started. */
export interface CgroupEntry extends Disposable {
  /** What the thread does, before it gives up its rights. */
  readonly steps: readonly ThreadStep[];
  /** Call it when the thread runs: catches up with cgroups that were made meanwhile. */
  entered(tid: number): Promise<void>;
}

/** A container's cgroups. */
export class ContainerCgroup {
  readonly #owner: ContainerCgroupOwner;
  readonly #own: LimitedGroups;
  readonly #onRemove: () => void;
  #resources: ResourceSpec;
  #changes = 0;
  #entering = 0;
  /** The cgroup that is frozen or about to be. */
  #frozen: Group | undefined;
  /** Threads that were told to end. */
  readonly #ending = new Set<number>();

  private constructor(
    owner: ContainerCgroupOwner,
    resources: ResourceSpec,
    onRemove: () => void,
  ) {
    this.#owner = owner;
    this.#resources = resources;
    this.#onRemove = onRemove;
    const { pod, id } = owner;
    this.#own = new LimitedGroups(
      owner.cgroups,
      this.#label,
      (hierarchy) => ({ hierarchy, path: `${pod.place(hierarchy).path}/${groupName(id)}` }),
      (hierarchy, above) => pod.onMade(hierarchy, above),
    );
  }

  /** See {@link PodCgroup.openContainer}. */
  static open(
    owner: ContainerCgroupOwner,
    resources: ResourceSpec,
    onRemove: () => void,
  ): ContainerCgroup {
    const container = new ContainerCgroup(owner, resources, onRemove);
    container.#own.keep(limitsOf(resources, container.#label));
    return container;
  }

  /** The threads that run in it. */
  threads(): readonly number[] {
    return this.#owner.threads();
  }

  /** Processes that run in it or are being started. */
  get pids(): number {
    return this.#owner.threads().length + this.#entering;
  }

  /** Whether it is frozen. */
  get frozen(): boolean {
    return this.#frozen !== undefined;
  }

  /** Whether it has a cgroup of its own in a hierarchy. */
  has(hierarchy: Hierarchy): boolean {
    return this.#own.get(hierarchy) !== undefined;
  }

  /**
   * Lets one more thread in.
   *
   * @throws {SandboxError} `ResourceExhausted` where there are as many processes as there may be.
   */
  enter(): CgroupEntry {
    const { pod, cgroups: { files } } = this.#owner;
    checkPids(this.pids + 1, this.#resources.pids, this.#label);
    checkPids(pod.pids + 1, pod.pidsMax, pod.label);
    const changes = this.#changes + pod.changes;
    using opened = new DisposableStack();
    const inherited = this.#inherited().map((group) => enterStep(group, pod.descriptorOf(group)));
    const own = this.#own.all().map((group) => {
      const fd = opened.adopt(openMembers(files, group), (open) => files.close(open));
      return enterStep(group, fd);
    });
    this.#entering++;
    opened.defer(() => void this.#entering--);
    const release = opened.move();
    return {
      steps: [...inherited, ...own],
      entered: async (tid) => {
        this.#ending.delete(tid);
        if (changes === this.#changes + pod.changes) return;
        const groups = [...this.#inherited(), ...this.#own.all()];
        for (const group of groups) await moveThreads(files, group, [tid]);
      },
      [Symbol.dispose]: () => release.dispose(),
    };
  }

  /**
   * Changes the container's limits, for what runs in it too.
   *
   * @throws {SandboxError} As when it was opened; then they are as before.
   */
  async update(resources: ResourceSpec): Promise<void> {
    const { cgroups: { files }, pod } = this.#owner;
    const limits = limitsOf(resources, this.#label);
    // Kubelet widens a pod before its containers: ours must not be the one that holds them back.
    await pod.copyGiven();
    const fresh = this.#own.keep(limits);
    this.#resources = resources;
    if (fresh.length > 0) this.#changes++;
    for (const group of fresh) await moveThreads(files, group, this.threads());
  }

  /**
   * Freezes its threads, but for those that were told to end.
   *
   * @throws {SandboxError} `FailedPrecondition` where this host cannot; `DeadlineExceeded` where it
   *   takes too long. Nothing is frozen then.
   */
  async pause(): Promise<void> {
    const { cgroups: { files } } = this.#owner;
    const group = this.#freezerGroup();
    this.#frozen = group;
    try {
      // Also those that entered before there was such a cgroup.
      const staying = this.threads().filter((tid) => !this.#ending.has(tid));
      await moveThreads(files, group, staying);
      await freeze(files, group, this.#label);
      // Those too that were told to end meanwhile.
      const ending = this.threads().filter((tid) => this.#ending.has(tid));
      await moveThreads(files, parentOf(group), ending);
    } catch (error) {
      this.resume();
      throw error;
    }
  }

  /** Thaws its threads. */
  resume(): void {
    if (this.#frozen === undefined) return;
    thaw(this.#owner.cgroups.files, this.#frozen);
    this.#frozen = undefined;
  }

  /**
   * Lets one thread go on alone, so that it can be ended: a frozen one takes no notice of anything.
   *
   * @param tid A thread that has been told to end.
   */
  async letGo(tid: number): Promise<void> {
    this.#ending.add(tid);
    if (this.#frozen === undefined) return;
    await moveThreads(this.#owner.cgroups.files, parentOf(this.#frozen), [tid]);
  }

  /**
   * Removes its cgroups. Its threads have ended.
   *
   * @throws {SandboxError} When threads stay in one; then it can be tried again.
   */
  async remove(): Promise<void> {
    this.resume();
    await this.#own.remove();
    this.#onRemove();
  }

  get #label(): string {
    return `container "${this.#owner.id}"`;
  }

  /** The pod's cgroups, in hierarchies where the container has none of its own. */
  #inherited(): readonly Group[] {
    return this.#owner.pod.groups().filter(({ hierarchy }) => !this.has(hierarchy));
  }

  #freezerGroup(): Group {
    const hierarchy = this.#owner.cgroups.hierarchyOf("freezer");
    if (hierarchy === undefined) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot pause ${this.#label}: this host has no cgroups that can freeze: mount cgroup2`,
      );
    }
    const known = this.#own.get(hierarchy);
    if (known !== undefined) return known;
    try {
      const group = this.#own.make(hierarchy);
      if (group === undefined) throw new SandboxError("Internal", "there is no place for it");
      this.#changes++;
      return group;
    } catch (error) {
      const { message } = SandboxError.from(error);
      throw new SandboxError("FailedPrecondition", `cannot pause ${this.#label}: ${message}`, {
        cause: error,
      });
    }
  }
}

/** The calling thread enters a cgroup. */
function enterStep(group: Group, fd: number): ThreadStep {
  return {
    label: `entering the cgroup "${directoryOf(group)}"`,
    number: SYSCALL.write,
    args: [fd, MYSELF, MYSELF.length],
  };
}
