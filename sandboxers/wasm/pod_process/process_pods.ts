/**
 * Pods with a process of their own, for the driver: starts them, and takes those of an earlier
 * sandboxer over.
 *
 * @module
 */

import type { AdoptableSandbox, AdoptedSandbox, SandboxHandle } from "../../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import { noObserver, type Observer } from "../../lifecycle/observer.ts";
import type { ContainerSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import type { Log, LogLevel, RootLog } from "../../log.ts";
import { Cgroups } from "../cgroups/cgroups.ts";
import { SystemCgroupFiles } from "../cgroups/files.ts";
import type { CompiledModules } from "../compiled_modules.ts";
import { MountTrees } from "../native/mount_trees.ts";
import type { System } from "../native/system.ts";
import { PodLauncher } from "./launcher.ts";
import { Processes } from "./live_process.ts";
import { PodCgroups } from "./pod_cgroups.ts";
import { type PodProcess, ProcessPod, type ProcessPodContext } from "./process_pod.ts";
import { UnixSockets } from "./sockets.ts";

/** How long a process that does not answer may take to end. */
const KILL_MS = 10_000;

/** What {@link ProcessPods} works with. */
export interface ProcessPodsOptions {
  /** Where the directories of pods' sockets are, an absolute path. */
  readonly directory: string;
  /** Where pods write the files that containers mount; see ../pod_files.ts. */
  readonly podDirectory: string;
  /** The sandboxer's Task API socket, an absolute path. */
  readonly taskSocket: string;
  /** Makes system calls. */
  readonly system: System;
  /** The cgroups of this host (default: found when they are needed). */
  readonly cgroups?: Cgroups;
  /** The cache of compiled code; missing where there is none. */
  readonly compiled?: CompiledModules;
  /** Where notes go. */
  readonly log: Log;
  /** How much pod processes say, now and when it is changed (default `info`). */
  readonly logLevel?: Pick<RootLog, "level" | "onLevel">;
  /** The launcher (default: the one that was built). */
  readonly launcherPath?: string;
  /** Hears of the phases of starts (default: nobody). */
  readonly observer?: Observer;
}

/** Makes pods with a process of their own. */
export class ProcessPods {
  readonly #context: ProcessPodContext;
  readonly #launcher: PodLauncher;
  readonly #observer: Observer;
  readonly #logLevel: () => LogLevel;
  /** Those whose process has not ended. */
  readonly #pods = new Set<ProcessPod>();

  /**
   * Starts nothing yet.
   *
   * @param options See {@link ProcessPodsOptions}.
   */
  constructor(options: ProcessPodsOptions) {
    const {
      directory,
      podDirectory,
      taskSocket,
      system,
      compiled,
      log,
      logLevel,
      launcherPath,
      observer = noObserver,
    } = options;
    this.#observer = observer;
    this.#logLevel = () => logLevel?.level ?? "info";
    logLevel?.onLevel((level) => {
      for (const pod of this.#pods) void pod.setLogLevel(level);
    });
    const { libraryPath } = system;
    const processes = new Processes(libraryPath, system);
    const files = new SystemCgroupFiles(system, libraryPath);
    const { cgroups = new Cgroups({ files, log }) } = options;
    this.#context = {
      system,
      sockets: new UnixSockets(libraryPath, system),
      processes,
      files: { system, trees: new MountTrees(libraryPath) },
      ...(compiled === undefined ? {} : { compiled }),
      log,
    };
    this.#launcher = new PodLauncher({
      directory,
      podDirectory,
      taskSocket,
      system,
      processes,
      cgroups: new PodCgroups(cgroups),
      log,
      logLevel: this.#logLevel,
      ...(launcherPath === undefined ? {} : { launcherPath }),
    });
  }

  /**
   * Starts a pod.
   *
   * @param spec The pod.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} When it cannot be started; then nothing is left of it.
   */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    const begin = performance.now();
    const level = this.#logLevel();
    const pod = await this.#launcher.start(spec, signal);
    const runs = performance.now();
    this.#observer.phase("sandbox_start", "process", begin, runs);
    try {
      const { handle } = await ProcessPod.connect(this.#context, pod);
      this.#watch(handle, level);
      this.#observer.phase("sandbox_start", "connect", runs);
      if (!signal.aborted) return handle;
      await handle.stop(0);
      throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
      return handle;
    } catch (error) {
      await this.#end(pod);
      throw SandboxError.from(error, `cannot start sandbox "${spec.id}"`);
    }
  }

  /**
   * Takes a pod over. One whose process does not answer is ended.
   *
   * @param sandbox What the store says of it.
   * @returns Undefined when it is gone; then nothing is left of it.
   */
  async adopt({ spec, record, containers }: AdoptableSandbox): Promise<AdoptedSandbox | undefined> {
    const pod = await this.#launcher.find(spec, record);
    if (pod === undefined) return undefined;
    try {
      const { handle, state } = await ProcessPod.connect(this.#context, pod);
      this.#watch(handle);
      const known = new Map<string, ContainerSpec>(
        containers.map((container) => [container.spec.id, container.spec]),
      );
      return { handle, containers: await handle.adopt(state, known) };
    } catch (error) {
      this.#context.log.error("ending a pod process that cannot be taken over", {
        sandbox: spec.id,
        pid: pod.process.identity.pid,
        error: SandboxError.from(error),
      });
      await this.#end(pod);
      return undefined;
    }
  }

  /**
   * Has a pod log as much as this process does, from now on.
   *
   * @param level What it was started with; missing where that is not known.
   */
  #watch(pod: ProcessPod, level?: LogLevel): void {
    this.#pods.add(pod);
    void pod.exited.then(() => this.#pods.delete(pod));
    const now = this.#logLevel();
    if (now !== level) void pod.setLogLevel(now);
  }

  async #end(pod: PodProcess): Promise<void> {
    pod.thaw();
    await pod.process.end(KILL_MS);
    pod.process[Symbol.dispose]();
    await pod.remove();
  }
}
