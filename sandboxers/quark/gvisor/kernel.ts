/**
 * gVisor as an application kernel: each pod is one runsc sandbox, whose root container only waits;
 * the pod's containers are further containers of it. Sandboxes outlive the sandboxer.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type {
  AdoptableSandbox,
  AdoptedSandbox,
  Capabilities,
  SandboxHandle,
} from "../../lifecycle/driver.ts";
import { checkId } from "../../lifecycle/ids.ts";
import { noObserver } from "../../lifecycle/observer.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";
import type { JsonObject } from "../../oci/json.ts";
import type { AppKernel } from "../app_kernel.ts";
import { hostnameOf, writePodFiles } from "../pod_files.ts";
import { adoptPod, endStrays, type PodNames, removeSandbox } from "./adoption.ts";
import { digest } from "./container_files.ts";
import { SentryControl } from "./control.ts";
import { podLimits } from "./limits.ts";
import type { GvisorOptions } from "./options.ts";
import { GvisorPod, type SavedContainer } from "./pod.ts";
import { panicLogOf } from "./last_words.ts";
import { readyInterfaces } from "./pod_addresses.ts";
import type { Runsc } from "./runsc.ts";
import { controlSocketPath, readRecord, type RunscContainer } from "./runsc_state.ts";
import { sandboxConfig } from "./sandbox_config.ts";
import { sharedFiles } from "./shared_files.ts";
import { restoreSandbox, savedContainers, type SnapshotRequest } from "./snapshot/restore.ts";
import { takeSnapshot } from "./snapshot/take.ts";
import { setSysctls } from "./sysctls.ts";

/** What containers in gVisor can do. */
export const GVISOR_CAPABILITIES: Capabilities = {
  exec: true,
  pause: true,
  updateContainer: true,
  updateSandbox: true,
  terminal: true,
};

/** Runs pods in gVisor. */
export class Gvisor implements AppKernel {
  /** Its name. */
  readonly name = "gvisor";
  /** What its containers can do, for the lifecycle. */
  readonly capabilities: Capabilities = GVISOR_CAPABILITIES;
  readonly #options: GvisorOptions;
  readonly #pods = new Map<string, GvisorPod>();
  readonly #leaving = new AbortController();
  /** Snapshots that sandboxes are about to be started from. */
  readonly #requests = new WeakMap<SandboxSpec, SnapshotRequest>();

  /**
   * Makes the kernel; nothing runs yet.
   *
   * @param options See {@link GvisorOptions}.
   */
  constructor(options: GvisorOptions) {
    this.#options = options;
  }

  /**
   * Takes a snapshot of a sandbox, which goes on.
   *
   * @param id The sandbox.
   * @param directory Where it goes: an absolute path, where nothing is yet.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `NotFound`, and see {@link takeSnapshot}.
   */
  async snapshot(id: string, directory: string, signal: AbortSignal): Promise<void> {
    const pod = this.#pods.get(id);
    if (pod === undefined) {
      throw new SandboxError("NotFound", `cannot take a snapshot of sandbox "${id}": not found`);
    }
    const { stateDirectory } = this.#options;
    await pod.still.whileStill(() => takeSnapshot(pod, directory, stateDirectory, signal));
  }

  /**
   * Has the start of a sandbox be one of a snapshot.
   *
   * @param spec The sandbox: this very object, whatever its id.
   * @param request The snapshot.
   */
  startFrom(spec: SandboxSpec, request: SnapshotRequest): void {
    this.#requests.set(spec, request);
  }

  /** Starts a sandbox. */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
    const names = this.#names(spec);
    try {
      const request = this.#requests.get(spec);
      return request === undefined
        ? await this.#start(spec, names, signal)
        : await this.#restore(spec, names, request, signal);
    } catch (error) {
      this.#pods.delete(spec.id);
      await this.#remove(names);
      throw error;
    }
  }

  async #start(spec: SandboxSpec, names: PodNames, signal: AbortSignal): Promise<GvisorPod> {
    const { launcher, root, observer = noObserver } = this.#options;
    const { sandbox, directory } = names;
    const begin = performance.now();
    const runsc = (await this.#runsc(spec)).with({ panicLog: panicLogOf(directory) });
    await writeBundle(directory, spec, this.#config(spec));
    await setSysctls(launcher, spec, signal);
    const ids = { id: sandbox, sandboxId: sandbox };
    const saving = runsc.options.network === "sandbox"
      ? readyInterfaces(launcher, spec, directory, signal)
      : Promise.resolve();
    // Where both fail, what runsc says counts.
    saving.catch(() => undefined);
    const bundled = performance.now();
    observer.phase("sandbox_start", "bundle", begin, bundled);
    await runsc.create({ ...ids, bundle: directory }, { signal });
    await saving;
    const created = performance.now();
    observer.phase("sandbox_start", "create", bundled, created);
    const pod = this.#pod(spec, await pidOf(root, ids, spec));
    // In the host's network stack nothing has to be set up for it.
    if (runsc.options.network === "host") await pod.control.startRoot(sandbox, signal);
    else await runsc.start(ids, {}, { signal });
    observer.phase("sandbox_start", "start", created);
    throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
    pod.watch();
    return pod;
  }

  /** Makes a sandbox of a snapshot; it goes on when its last container is started. */
  async #restore(
    spec: SandboxSpec,
    names: PodNames,
    request: SnapshotRequest,
    signal: AbortSignal,
  ): Promise<GvisorPod> {
    const { root, observer = noObserver } = this.#options;
    const { sandbox, directory } = names;
    const saved = savedContainers(request);
    const begin = performance.now();
    const runsc = (await this.#runsc(spec)).with({ panicLog: panicLogOf(directory) });
    await writeBundle(directory, spec, this.#config(spec));
    const bundled = performance.now();
    observer.phase("sandbox_start", "bundle", begin, bundled);
    const ids = { id: sandbox, sandboxId: sandbox };
    await restoreSandbox(runsc, { ...ids, bundle: directory }, request, signal);
    const pod = this.#pod(spec, await pidOf(root, ids, spec), saved);
    observer.phase("sandbox_start", "restore", bundled);
    throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
    pod.watch();
    return pod;
  }

  /** Removes what is left of a sandbox that could not be started; never rejects. */
  async #remove(names: PodNames): Promise<void> {
    try {
      await removeSandbox(this.#options, names);
    } catch (error) {
      this.#options.log.warn("cannot remove what is left of a sandbox", {
        ...names,
        error: SandboxError.from(error),
      });
    }
  }

  /** Takes a sandbox over, or cleans up where it has ended. */
  async adopt(sandbox: AdoptableSandbox): Promise<AdoptedSandbox | undefined> {
    const { spec } = sandbox;
    return await adoptPod({
      ...this.#options,
      ...this.#names(spec),
      podOf: (pid) => this.#pod(spec, pid),
    }, sandbox);
  }

  /** Ends what belongs to no sandbox. */
  async recovered(): Promise<void> {
    const inUse = new Set([...this.#pods.values()].map(({ sandbox }) => sandbox));
    await endStrays(this.#options, inUse);
    await this.#look();
  }

  /** Looks for runsc now, so that the first sandbox does not wait. */
  async #look(): Promise<void> {
    try {
      await this.#options.runsc({ network: "none", ignoresCgroups: true });
    } catch (error) {
      this.#options.log.warn("an application kernel cannot be used", {
        kernel: this.name,
        error: SandboxError.from(error).message,
      });
    }
  }

  /** Leaves the sandboxes to the next sandboxer. */
  leave(): Promise<void> {
    this.#leaving.abort();
    return Promise.resolve();
  }

  /** What a pod is called by runsc, and where it is on the host. */
  #names({ id, cgroupParent }: SandboxSpec): PodNames {
    checkId("sandbox id", id);
    const sandbox = digest(id);
    return {
      sandbox,
      directory: `${this.#options.podDirectory}/${sandbox}`,
      cgroup: cgroupParent === "" ? "" : `${cgroupParent}/quasaur-${sandbox}`,
    };
  }

  #runsc(spec: SandboxSpec): Promise<Runsc> {
    return this.#options.runsc({
      network: spec.network.kind,
      ignoresCgroups: spec.cgroupParent === "",
    });
  }

  #config(spec: SandboxSpec): JsonObject {
    const { sandbox, directory, cgroup } = this.#names(spec);
    return sandboxConfig({ ...spec, resources: podLimits(spec.resources, []) }, {
      sandbox,
      rootfs: this.#options.pauseRoot,
      shm: sharedFiles(directory).shm,
      hostname: hostnameOf(spec),
      cgroup,
    });
  }

  #pod(
    spec: SandboxSpec,
    pid: number,
    saved: ReadonlyMap<string, SavedContainer> = new Map(),
  ): GvisorPod {
    const { root, connect, outlivesSandboxer = true } = this.#options;
    const names = this.#names(spec);
    const pod: GvisorPod = new GvisorPod({
      ...this.#options,
      ...names,
      spec,
      pid,
      control: new SentryControl(controlSocketPath(root, names.sandbox), connect),
      runsc: () => this.#runsc(spec),
      leaving: this.#leaving.signal,
      saved,
      outlivesSandboxer,
      onRemoved: () => {
        if (this.#pods.get(spec.id) === pod) this.#pods.delete(spec.id);
      },
    });
    this.#pods.set(spec.id, pod);
    return pod;
  }
}

/** The process of a sandbox that runsc has made. */
async function pidOf(
  root: string,
  ids: RunscContainer,
  { id }: Pick<SandboxSpec, "id">,
): Promise<number> {
  const record = await readRecord(root, ids);
  if (record !== undefined) return record.sandboxPid;
  throw new SandboxError("Internal", `cannot start sandbox "${id}": runsc forgot it`);
}

async function writeBundle(
  directory: string,
  spec: SandboxSpec,
  config: JsonObject,
): Promise<void> {
  try {
    await Deno.mkdir(directory, { recursive: true, mode: 0o711 });
    await Promise.all([
      Deno.writeTextFile(`${directory}/config.json`, JSON.stringify(config), { mode: 0o600 }),
      writePodFiles(directory, spec),
    ]);
  } catch (error) {
    throw SandboxError.from(error, `cannot write the bundle of sandbox "${spec.id}"`);
  }
}
