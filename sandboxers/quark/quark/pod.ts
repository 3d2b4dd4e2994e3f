/**
 * A pod whose kernel is Quark, as the lifecycle sees it. It lives and dies with Quark's process, which
 * is nobody's child: its end is noticed by the connection to it.
 *
 * @module
 */

import type { Launcher, ProcessIdentity } from "../../host/launcher.ts";
import type { ContainerHandle, SandboxHandle } from "../../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import {
  type ContainerSpec,
  type Exit,
  type Json,
  KILLED_STATUS,
  type ResourceSpec,
  type SandboxSpec,
  type Stats,
} from "../../lifecycle/spec.ts";
import { removeTree } from "../../removal.ts";
import { podFiles } from "../pod_files.ts";
import { type ContainerPod, QuarkContainer } from "./container.ts";
import { containerConfig } from "./container_config.ts";
import {
  type ContainerDirectory,
  makeContainerDirectory,
  removeContainerDirectory,
} from "./container_files.ts";
import { lastWords } from "./launch.ts";
import { containerName, type PodPlaces } from "./names.ts";
import type { QuarkOptions } from "./options.ts";
import type { PodRecord } from "./record.ts";
import { BoundStdio } from "./stdio.ts";
import type { TaskConnection } from "./task_connection.ts";
import { sandboxStats } from "./usage.ts";

const SIGTERM = 15;
/** How often processes that have to end are looked at, in milliseconds. */
const GRACE_POLL_MS = 20;

/** What a pod is made of. */
export interface PodParts extends PodRecord {
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** What Quark calls it. */
  readonly name: string;
  /** Where its files are. */
  readonly places: PodPlaces;
  /** The connection to Quark; the pod owns it. */
  readonly tasks: TaskConnection;
  /** Names that it has had containers of. */
  readonly taken?: readonly string[];
  /** Called once when nothing is left of it. */
  onGone(): void;
}

/** A pod. */
export class QuarkPod implements SandboxHandle, ContainerPod {
  /** Whether it goes on when this process ends. */
  readonly outlivesSandboxer: boolean;
  /** What the next sandboxer needs. */
  readonly record: Json;
  /** What pods are made with. */
  readonly options: QuarkOptions;
  readonly #parts: PodParts;
  readonly #containers = new Set<QuarkContainer>();
  /** Names that Quark has had containers of, and its own. */
  readonly #taken: Set<string>;
  readonly #exit = Promise.withResolvers<Exit>();
  #over = false;
  #stopping = false;
  #gone = false;

  /**
   * Stands for a sandbox that runs.
   *
   * @param options What pods are made with.
   * @param parts See {@link PodParts}.
   */
  constructor(options: QuarkOptions, parts: PodParts) {
    const { kernel, cgroup } = parts;
    this.options = options;
    this.outlivesSandboxer = options.outlivesSandboxer ?? true;
    this.record = { kernel: { ...kernel }, cgroup };
    this.#parts = parts;
    this.#taken = new Set([parts.name, ...parts.taken ?? []]);
    void parts.tasks.ended.then((reason) => this.#lost(reason));
  }

  /** The id of Quark's process. */
  get pid(): number {
    return this.#parts.kernel.pid;
  }

  /** What Quark calls it. */
  get name(): string {
    return this.#parts.name;
  }

  /** Where its files are. */
  get places(): PodPlaces {
    return this.#parts.places;
  }

  /** The connection to Quark. */
  get tasks(): TaskConnection {
    return this.#parts.tasks;
  }

  /** Whether Quark has ended. */
  get over(): boolean {
    return this.#over;
  }

  /** Settles when Quark has ended. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** How many containers it has. */
  get containerCount(): number {
    return this.#containers.size;
  }

  /** Makes a container ready to start. */
  async createContainer(spec: ContainerSpec, signal: AbortSignal): Promise<ContainerHandle> {
    throwIfAborted(signal, `cannot create container "${spec.id}"`);
    const { mounter } = this.options;
    const name = containerName(spec.id, this.#taken);
    this.#taken.add(name);
    const directory = this.containerDirectory(name);
    const config = await containerConfig(spec, this.name);
    await makeContainerDirectory(mounter, directory, spec, {
      ...config,
      podFiles: podFiles(this.places.directory),
    });
    await using undo = new AsyncDisposableStack();
    undo.defer(() => removeContainerDirectory(mounter, directory));
    const stdio = await BoundStdio.bind(this.options, { directory, exec: "" }, spec.stdio);
    undo.defer(() => stdio.closeStdin());
    const parts = { spec, name, directory, stdio };
    const container = await QuarkContainer.create(this, parts, signal);
    undo.move();
    this.#containers.add(container);
    return container;
  }

  /** Where the files of a container are. */
  containerDirectory(name: string): ContainerDirectory {
    return { path: `${this.places.bundle}/${name}`, inside: `/${name}` };
  }

  /** Takes note of a container that an earlier sandboxer had made. */
  add(container: QuarkContainer): void {
    this.#containers.add(container);
    this.#taken.add(container.name);
  }

  /** Hears no more of a container. */
  forget(container: QuarkContainer): void {
    this.#containers.delete(container);
  }

  /** Changes the limits of its cgroup. */
  async update(resources: ResourceSpec): Promise<void> {
    const { cgroup, spec } = this.#parts;
    if (cgroup === "") {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot change the limits of sandbox "${spec.id}": it was started without a cgroup`,
      );
    }
    await this.options.launcher.limitCgroup(cgroup, resources);
  }

  /** What Quark's process uses, with all its containers. */
  async stats(): Promise<Stats> {
    const { kernel, cgroup } = this.#parts;
    return await sandboxStats(this.options.launcher, kernel, cgroup);
  }

  /** Ends everything in it and releases all of it. */
  async stop(graceMs: number): Promise<void> {
    this.#stopping = true;
    if (graceMs > 0 && !this.over) await this.#endProcesses(graceMs);
    const { tasks, kernel, cgroup, places } = this.#parts;
    // It has no other way to be ended: a sandbox is there until it is killed.
    await this.options.launcher.kill(kernel);
    this.#end({ status: 0, at: Date.now(), reason: "exited" });
    tasks[Symbol.dispose]();
    for (const container of [...this.#containers]) await container.release();
    await removePod(this.options, places, cgroup);
    if (!this.#gone) this.#parts.onGone();
    this.#gone = true;
  }

  /** Leaves it to the next sandboxer. */
  async leave(): Promise<void> {
    this.#stopping = true;
    for (const container of this.#containers) await container.leave();
    this.tasks[Symbol.dispose]();
  }

  async #endProcesses(graceMs: number): Promise<void> {
    const end = Date.now() + graceMs;
    const running = () => [...this.#containers].flatMap((container) => container.running);
    for (const process of running()) process.kill(SIGTERM).catch(() => undefined);
    while (running().length > 0 && Date.now() < end && !this.over) {
      await new Promise((resolve) => setTimeout(resolve, GRACE_POLL_MS));
    }
  }

  /** Quark has ended by itself, or does not answer any more: then it is ended. */
  async #lost(reason: SandboxError): Promise<void> {
    if (this.#stopping) return;
    const { spec, kernel, places } = this.#parts;
    const words = await lastWords(places);
    await endKernel(this.options.launcher, kernel).catch((error: unknown) =>
      this.options.log.error("cannot end Quark", { sandbox: spec.id, error })
    );
    const message = `Quark has ended: ${words === "" ? reason.message : words}`;
    this.#end({ status: KILLED_STATUS, at: Date.now(), reason: "lost", message });
  }

  #end(exit: Exit): void {
    this.#over = true;
    this.#exit.resolve(exit);
  }
}

/** Kills Quark where it still runs. */
async function endKernel(launcher: Launcher, kernel: ProcessIdentity): Promise<void> {
  if (await launcher.alive(kernel)) await launcher.kill(kernel);
}

/**
 * Takes away what is left of a pod on the host once Quark has ended. May be called more than once.
 *
 * @param options What pods are made with.
 * @param places Where its files are.
 * @param cgroup Its cgroup; empty for none.
 * @throws {SandboxError} Where something cannot be unmounted; then no file is removed.
 */
export async function removePod(
  { launcher, mounter, log }: QuarkOptions,
  { directory, bundle }: PodPlaces,
  cgroup: string,
): Promise<void> {
  // All that is mounted below it goes with it.
  await mounter.unmountAll([bundle]);
  await removeTree(directory);
  if (cgroup === "") return;
  try {
    await launcher.removeCgroup(cgroup);
  } catch (error) {
    // It is the business of whoever made those above it.
    log.warn("cannot remove a cgroup", { cgroup, error: SandboxError.from(error) });
  }
}
