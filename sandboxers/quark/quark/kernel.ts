/**
 * Quark as an application kernel: a virtual machine monitor and a guest kernel in one, whose sandbox
 * process serves the Task API by itself. Driven by the contract that Kuasar's sandboxer for it has:
 * a bundle for the sandbox, one below it for each container, and a ttrpc socket.
 *
 * Source: kuasar-io/kuasar quark/; QuarkContainer/Quark qvisor/src/runc.
 *
 * @module
 */

import type { ProcessIdentity } from "../../host/launcher.ts";
import type {
  AdoptableSandbox,
  AdoptedSandbox,
  Capabilities,
  SandboxHandle,
} from "../../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import { checkId } from "../../lifecycle/ids.ts";
import { noObserver } from "../../lifecycle/observer.ts";
import type { ContainerSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import type { AppKernel } from "../app_kernel.ts";
import { writePodFiles } from "../pod_files.ts";
import { adoptContainers } from "./adoption.ts";
import { checkQuarkConfig } from "./config_check.ts";
import { launchError, launchQuark, readPid } from "./launch.ts";
import { placesIn, type PodPlaces, podPlaces, sandboxName } from "./names.ts";
import type { QuarkOptions } from "./options.ts";
import { QuarkPod, removePod } from "./pod.ts";
import { readRecord } from "./record.ts";
import { sandboxConfig } from "./sandbox_config.ts";
import { checkStdio } from "./stdio.ts";
import { TaskConnection } from "./task_connection.ts";

/** How long a Quark that runs may take to answer the next sandboxer, in milliseconds. */
const ADOPT_MS = 30_000;
/** How long FIFOs stay open here when a sandboxer leaves, in milliseconds. */
const HANDOVER_MS = 50;

/**
 * What Quark's task service can do. It has no Pause and no Resume, and answers Update with an error
 * whatever is asked for. The limits of a pod are those of its cgroup on the host.
 *
 * Source: QuarkContainer/Quark qvisor/src/runc/shim/shim_task.rs and container.rs, as of June 2025.
 */
export const QUARK_CAPABILITIES: Capabilities = {
  exec: true,
  pause: false,
  updateContainer: false,
  updateSandbox: true,
  terminal: true,
};

/** Runs pods in Quark. */
export class Quark implements AppKernel {
  /** Its name. */
  readonly name = "quark";
  /** What it can do. */
  readonly capabilities: Capabilities = QUARK_CAPABILITIES;
  readonly #options: QuarkOptions;
  readonly #pods = new Set<QuarkPod>();

  /**
   * Starts nothing yet.
   *
   * @param options See {@link QuarkOptions}.
   */
  constructor(options: QuarkOptions) {
    this.#options = options;
  }

  /** Starts Quark for a pod, with no container in it yet. */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    const action = `cannot start sandbox "${spec.id}"`;
    throwIfAborted(signal, action);
    checkId("sandbox id", spec.id);
    const { observer = noObserver } = this.#options;
    const begin = performance.now();
    await checkQuarkConfig(this.#options.configPath, action);
    const name = sandboxName(spec.id);
    const places = podPlaces(this.#options.podDirectory, spec.id);
    const cgroup = cgroupOf(spec, places);
    await using undo = new AsyncDisposableStack();
    await this.#makeBundle(spec, { name, places, cgroup }, undo);
    const bundled = performance.now();
    observer.phase("sandbox_start", "bundle", begin, bundled);
    const kernel = await launchQuark(this.#options, { places, name, cgroup }, signal);
    undo.defer(() => this.#options.launcher.kill(kernel));
    const launched = performance.now();
    observer.phase("sandbox_start", "launch", bundled, launched);
    const tasks = await this.#connect(places, kernel, signal);
    observer.phase("sandbox_start", "connect", launched);
    undo.move();
    return this.#pod({ spec, name, places, kernel, cgroup, tasks });
  }

  /** Takes a pod over: Quark with all that runs in it, or cleans up where that has ended. */
  async adopt(sandbox: AdoptableSandbox): Promise<AdoptedSandbox | undefined> {
    const { spec } = sandbox;
    checkId("sandbox id", spec.id);
    const places = podPlaces(this.#options.podDirectory, spec.id);
    const record = readRecord(sandbox.record);
    const isAlive = record !== undefined && await this.#options.launcher.alive(record.kernel);
    if (!isAlive) {
      await this.#endStray(places);
      await removePod(this.#options, places, cgroupOf(spec, places));
      return undefined;
    }
    const { kernel, cgroup } = record;
    const name = sandboxName(spec.id);
    const tasks = await this.#reconnect(places, kernel, spec.id);
    if (tasks === undefined) {
      await removePod(this.#options, places, cgroup);
      return undefined;
    }
    // Which names it has had containers of is not known any more; those of ids may be among them.
    const taken = sandbox.containers.map(({ spec: { id } }) => id);
    const pod = this.#pod({ spec, name, places, kernel, cgroup, tasks, taken });
    try {
      return { handle: pod, containers: await adoptContainers(pod, sandbox) };
    } catch (error) {
      this.#giveUp(spec.id, error);
      await pod.stop(0);
      return undefined;
    }
  }

  /** Refuses streams that Quark cannot open. */
  validate(spec: ContainerSpec): void {
    checkStdio(spec.stdio, `container "${spec.id}"`);
  }

  /** Ends what belongs to no pod. */
  async recovered(): Promise<void> {
    const { podDirectory, log } = this.#options;
    const own = new Set([...this.#pods].map(({ places }) => places.directory));
    for (const directory of await directoriesIn(podDirectory)) {
      if (own.has(directory)) continue;
      const places = placesIn(directory);
      try {
        await this.#endStray(places);
        await removePod(this.#options, places, "");
      } catch (error) {
        log.warn("cannot remove what is left of a pod", {
          directory,
          error: SandboxError.from(error),
        });
      }
    }
  }

  /** Leaves the pods to the next sandboxer. */
  async leave(): Promise<void> {
    const pods = [...this.#pods];
    // Whoever has just been told to hold their FIFOs opens them before they are closed here.
    if (pods.length > 0) await new Promise((resolve) => setTimeout(resolve, HANDOVER_MS));
    await Promise.all(pods.map((pod) => pod.leave()));
  }

  async #makeBundle(
    spec: SandboxSpec,
    { name, places, cgroup }: {
      readonly name: string;
      readonly places: PodPlaces;
      readonly cgroup: string;
    },
    undo: AsyncDisposableStack,
  ): Promise<void> {
    const { podDirectory, mounter } = this.#options;
    const { directory, bundle } = places;
    const config = JSON.stringify(sandboxConfig(spec, name));
    try {
      await Deno.mkdir(podDirectory, { recursive: true, mode: 0o711 });
      await Deno.mkdir(directory, { mode: 0o700 });
    } catch (error) {
      throw SandboxError.from(error, `cannot make "${directory}"`);
    }
    undo.defer(async () => {
      // One that nobody knows the process of may have been about to come up.
      await this.#endStray(places);
      await removePod(this.#options, places, cgroup);
    });
    await writePodFiles(directory, spec);
    await Deno.mkdir(`${bundle}/rootfs/dev`, { recursive: true });
    await Deno.writeTextFile(`${bundle}/config.json`, config);
    // What is mounted there later has to be seen in the mount namespace that Quark makes.
    await mounter.share(bundle);
  }

  async #connect(
    places: PodPlaces,
    kernel: ProcessIdentity,
    signal: AbortSignal,
  ): Promise<TaskConnection> {
    const { readyMs, launcher } = this.#options;
    try {
      return await TaskConnection.open(this.#connection(places, kernel), readyMs, signal);
    } catch (error) {
      if (await launcher.alive(kernel)) throw error;
      throw await launchError(SandboxError.from(error).message, places);
    }
  }

  /** Undefined where Quark does not answer; then it has been ended. */
  async #reconnect(
    places: PodPlaces,
    kernel: ProcessIdentity,
    id: string,
  ): Promise<TaskConnection | undefined> {
    const { launcher } = this.#options;
    const signal = new AbortController().signal;
    try {
      return await TaskConnection.open(this.#connection(places, kernel), ADOPT_MS, signal);
    } catch (error) {
      this.#giveUp(id, error);
      await launcher.kill(kernel);
      return undefined;
    }
  }

  #connection({ socket }: PodPlaces, kernel: ProcessIdentity) {
    return {
      connect: (path: string) => this.#options.connect(path),
      path: socket,
      alive: () => this.#options.launcher.alive(kernel),
    };
  }

  /**
   * Ends a Quark of which nothing is known but its files. Its process id may be another's by now: it
   * is Quark's for sure where somebody listens at the socket, which ends with the process.
   */
  async #endStray(places: PodPlaces): Promise<void> {
    const { connect, launcher } = this.#options;
    const connection = await connect(places.socket).catch(() => undefined);
    if (connection === undefined) return;
    try {
      const kernel = await readPid(this.#options, places);
      if (kernel !== undefined) await launcher.kill(kernel);
    } finally {
      connection.close();
    }
  }

  #pod(parts: Omit<ConstructorParameters<typeof QuarkPod>[1], "onGone">): QuarkPod {
    const onGone = () => void this.#pods.delete(pod);
    const pod: QuarkPod = new QuarkPod(this.#options, { ...parts, onGone });
    this.#pods.add(pod);
    return pod;
  }

  #giveUp(sandbox: string, error: unknown): void {
    this.#options.log.error("ending a pod that cannot be taken over", {
      sandbox,
      error: SandboxError.from(error),
    });
  }
}

/** Its own cgroup, below the pod's. */
function cgroupOf({ cgroupParent }: SandboxSpec, { directory }: PodPlaces): string {
  if (cgroupParent === "") return "";
  return `${cgroupParent}/quasaur-${directory.slice(directory.lastIndexOf("/") + 1)}`;
}

async function directoriesIn(path: string): Promise<string[]> {
  const found: string[] = [];
  try {
    for await (const { name, isDirectory } of Deno.readDir(path)) {
      if (isDirectory) found.push(`${path}/${name}`);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return found;
}
