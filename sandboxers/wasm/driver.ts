/**
 * The wasm kind of sandbox: guests are WebAssembly modules that run on threads of this process,
 * each inside its pod's network namespace. A pod costs a descriptor, a container a thread.
 *
 * @module
 */

import type {
  AdoptableSandbox,
  AdoptedSandbox,
  Capabilities,
  Driver,
  SandboxHandle,
} from "../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import { noObserver, type Observer } from "../lifecycle/observer.ts";
import type { ContainerSpec, SandboxSpec } from "../lifecycle/spec.ts";
import { type Log, noLog } from "../log.ts";
import { checkForeignAnnotations } from "./annotations.ts";
import { Cgroups } from "./cgroups/cgroups.ts";
import { SystemCgroupFiles } from "./cgroups/files.ts";
import { validateContainer } from "./container.ts";
import type { Engine } from "./engine.ts";
import type { ContainerContext } from "./guest_process.ts";
import { type Isolation, ISOLATION_ANNOTATION, isolationOf } from "./isolation.ts";
import { MountTrees } from "./native/mount_trees.ts";
import type { System } from "./native/system.ts";
import { WasmPod } from "./pod.ts";
import type { ProcessPods } from "./pod_process/process_pods.ts";
import { removePodFiles } from "./pod_files.ts";
import { SeccompFilters } from "./seccomp.ts";

/** What a {@link WasmDriver} works with. */
export interface WasmDriverOptions {
  /** Runs the guests. Stays the caller's. */
  readonly engine: Engine;
  /** Makes the system calls. */
  readonly system: System;
  /**
   * Where pods write the files that containers of containerd mount: hosts, hostname, resolv.conf
   * (default: nowhere; then images have their own, or none).
   */
  readonly podDirectory?: string;
  /** Where notes go (default: nowhere). */
  readonly log?: Log;
  /** Keeps the limits of pods and containers (default: as {@link Cgroups} does by itself). */
  readonly cgroups?: Cgroups;
  /** Mounts what containers bring (default: as far as this process has the right to). */
  readonly trees?: MountTrees;
  /** Starts the processes of pods that want their own; without it there are none. */
  readonly processes?: ProcessPods;
  /** Hears of the phases of starts (default: nobody). */
  readonly observer?: Observer;
}

/** What wasm guests can do. */
export const WASM_CAPABILITIES: Capabilities = {
  exec: true,
  pause: true,
  updateContainer: true,
  updateSandbox: true,
  terminal: false,
};

/** Runs sandboxes of WebAssembly modules. */
export class WasmDriver implements Driver {
  /** The name of this kind. */
  readonly kind = "wasm";
  /** What wasm guests can do, for the lifecycle. */
  readonly capabilities: Capabilities = WASM_CAPABILITIES;
  readonly #context: ContainerContext;
  readonly #processes: ProcessPods | undefined;

  /**
   * Makes the driver; nothing runs yet.
   *
   * @param options Engine and system.
   */
  constructor(options: WasmDriverOptions) {
    const { engine, system, podDirectory, log = noLog } = options;
    const files = new SystemCgroupFiles(system, system.libraryPath);
    const { cgroups = new Cgroups({ files, log }) } = options;
    const filters = new SeccompFilters(system);
    const { trees = treesOf(system), processes, observer = noObserver } = options;
    this.#context = { engine, system, trees, podDirectory, filters, cgroups, observer, log };
    this.#processes = processes;
  }

  /** Opens the pod's network, or starts its process. */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
    checkForeignAnnotations(spec.annotations, `cannot start sandbox "${spec.id}"`);
    if (isolationOf(spec) === "thread") return new WasmPod(this.#context, spec);
    if (this.#processes !== undefined) return await this.#processes.start(spec, signal);
    throw new SandboxError(
      "FailedPrecondition",
      `cannot start sandbox "${spec.id}" in a process of its own: only a sandboxer that serves ` +
        `containerd can: leave the annotation "${ISOLATION_ANNOTATION}" out`,
    );
  }

  /**
   * Guests end with the process that they run in. Of a pod on threads only the pod itself is taken
   * over, where its network namespace is still there; of one with its own process, all.
   */
  async adopt(sandbox: AdoptableSandbox): Promise<AdoptedSandbox | undefined> {
    const { spec, containers } = sandbox;
    if (this.#processes !== undefined && isolationOrThread(spec) === "process") {
      return await this.#processes.adopt(sandbox);
    }
    const containerIds = containers.map((container) => container.spec.id);
    await this.#context.cgroups.removeLeft(spec, containerIds);
    try {
      return { handle: new WasmPod(this.#context, spec), containers: new Map() };
    } catch (error) {
      if (SandboxError.from(error).code !== "InvalidArgument") throw error;
      const { podDirectory } = this.#context;
      if (podDirectory !== undefined) removePodFiles(podDirectory, spec.id);
      return undefined;
    }
  }

  /** Refuses terminals and containers without a program. */
  validate(spec: ContainerSpec): void {
    validateContainer(spec);
  }
}

/** The isolation of a pod that may have been refused because it asked for none that there is. */
function isolationOrThread(spec: SandboxSpec): Isolation {
  try {
    return isolationOf(spec);
  } catch {
    return "thread";
  }
}

/** Without any capability, as for a plain user on the command line, nothing can be mounted. */
function treesOf(system: System): MountTrees | undefined {
  return system.effectiveCapabilities() === 0n ? undefined : new MountTrees(system.libraryPath);
}
