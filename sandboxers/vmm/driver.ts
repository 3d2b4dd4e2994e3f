/**
 * The vmm kind of sandbox: each pod is a microVM, its containers run inside under the guest agent.
 * VMMs outlive the sandboxer; the next one takes them over.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type {
  AdoptableSandbox,
  AdoptedSandbox,
  Capabilities,
  Driver,
  SandboxHandle,
} from "../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import { checkId } from "../lifecycle/ids.ts";
import { noObserver, type Observer } from "../lifecycle/observer.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import { adoptContainers } from "./adoption.ts";
import type { ContainerFilesOpener } from "./container_files.ts";
import type { Guest } from "./guest.ts";
import type { GuestStarter } from "./guest_starter.ts";
import { type PodContext, type PodParts, VmPod } from "./pod.ts";
import { type PodState, readPodState, writePodState } from "./pod_state.ts";
import { SnapshotImages, type SnapshotRequest } from "./snapshot/restore.ts";
import { takeSnapshot } from "./snapshot/take.ts";
import type { Streams } from "./streams.ts";

/** How long taking a guest over may take, in milliseconds. */
const ADOPT_MS = 60_000;

/** What a {@link VmmDriver} works with. */
export interface VmmDriverOptions {
  /** Starts guests. */
  readonly starter: GuestStarter;
  /** Brings files of containers to guests. */
  readonly files: ContainerFilesOpener;
  /** Opens streams to a guest. */
  streams(guest: Guest): Streams;
  /** The directory of the pods' directories, an absolute path. */
  readonly podDirectory: string;
  /** Where task calls are taken; undefined without containerd. */
  readonly taskSocket: string | undefined;
  /** Has other work wait while a pod is starting. */
  hold(): Disposable | undefined;
  /**
   * Called once when all pods of an earlier sandboxer were taken over.
   *
   * @param inUse The directories of their machines.
   */
  recovered(inUse: ReadonlySet<string>): Promise<void>;
  /** Called when pods are about to be left to the next process: what is open to clients stays open. */
  keepOpen(): Promise<void>;
  /** Has somebody hear when the relay of task calls has died; missing without one. */
  onCallersLost?(listener: () => void): void;
  /** Called once when this process is about to leave, with whether pods go on without it. */
  leave(hasPods: boolean): Promise<void>;
  /** Hears of the phases of starts; missing for nobody. */
  readonly observer?: Observer;
  /** Where notes go. */
  readonly log: Log;
}

/** What containers in microVMs can do. */
export const VMM_CAPABILITIES: Capabilities = {
  exec: true,
  pause: true,
  updateContainer: true,
  updateSandbox: true,
  terminal: true,
};

/** Runs sandboxes that are microVMs. */
export class VmmDriver implements Driver {
  /** The name of this kind. */
  readonly kind = "vmm";
  /** What containers in microVMs can do, for the lifecycle. */
  readonly capabilities: Capabilities = VMM_CAPABILITIES;
  readonly #options: VmmDriverOptions;
  readonly #context: PodContext;
  readonly #pods = new Set<VmPod>();
  /** Snapshots that sandboxes are about to be started from. */
  readonly #requests = new WeakMap<SandboxSpec, SnapshotRequest>();

  /**
   * Makes the driver; nothing runs yet.
   *
   * @param options See {@link VmmDriverOptions}.
   */
  constructor(options: VmmDriverOptions) {
    const { files, taskSocket, observer = noObserver, log } = options;
    this.#options = options;
    this.#context = {
      files,
      streams: (guest) => options.streams(guest),
      replace: (pod, old, signal) => this.#replace(pod, old, signal),
      taskSocket,
      observer,
      log,
    };
  }

  /**
   * Takes a snapshot of a pod, which goes on.
   *
   * @param id The pod.
   * @param directory Where it goes; nothing is there yet.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `NotFound`, and see {@link takeSnapshot}.
   */
  async snapshot(id: string, directory: string, signal: AbortSignal): Promise<void> {
    const pod = [...this.#pods].find(({ spec }) => spec.id === id);
    if (pod === undefined) {
      throw new SandboxError("NotFound", `cannot take a snapshot of sandbox "${id}": not found`);
    }
    const { files } = this.#context;
    const ownsImages = (path: string) => files.ownsImage(path);
    // Also one at a time: the second would find the containers paused by the first.
    await pod.whileStill(() => takeSnapshot(pod, directory, ownsImages, signal));
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

  /** Starts a pod's guest. */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<SandboxHandle> {
    throwIfAborted(signal, `cannot start sandbox "${spec.id}"`);
    const snapshot = this.#requests.get(spec);
    if (snapshot !== undefined) return await this.#restore(spec, snapshot, signal);
    const directory = this.#directoryOf(spec.id);
    using _hold = this.#options.hold();
    await using undo = new AsyncDisposableStack();
    await makeDirectory(directory);
    undo.defer(() => removeDirectory(directory));
    const volumes = this.#context.files.volumesOf(directory);
    undo.defer(() => volumes.release());
    const request = { spec, volumes, mustShare: false };
    const { guest, mayShare } = await this.#options.starter.start(request, signal);
    undo.defer(() => guest.stop());
    await writePodState(directory, { guest: guest.record, mayShare, isUsed: false });
    undo.move();
    return this.#pod({ spec, directory, guest, volumes, mayShare, isUsed: false });
  }

  /** Takes a pod over: its guest with all that runs in it, or cleans up where that has ended. */
  async adopt(sandbox: AdoptableSandbox): Promise<AdoptedSandbox | undefined> {
    const { spec } = sandbox;
    const directory = this.#directoryOf(spec.id);
    const state = await this.#stateOf(spec, directory);
    const signal = AbortSignal.timeout(ADOPT_MS);
    const guest = state && await this.#options.starter.adopt(state.guest, signal);
    const volumes = this.#context.files.volumesOf(directory);
    if (state === undefined || guest === undefined) {
      await this.#releaseRest(sandbox, directory);
      await volumes.release();
      await removeDirectory(directory);
      return undefined;
    }
    const { mayShare, isUsed } = state;
    const pod = this.#pod({ spec, directory, guest, volumes, mayShare, isUsed });
    try {
      const containers = await adoptContainers(pod, this.#context, sandbox);
      pod.takenOver();
      await volumes.sweep();
      return { handle: pod, containers };
    } catch (error) {
      this.#options.log.error("ending a pod that cannot be taken over", {
        sandbox: spec.id,
        error: SandboxError.from(error),
      });
      await pod.stop(0);
      return undefined;
    }
  }

  /** What is known of a pod; one that nobody can read is gone: its machine is ended as nobody's. */
  async #stateOf({ id }: SandboxSpec, directory: string): Promise<PodState | undefined> {
    try {
      return await readPodState(directory);
    } catch (error) {
      if (SandboxError.from(error).code !== "DataLoss") throw error;
      this.#options.log.error("a pod cannot be taken over", {
        sandbox: id,
        error: SandboxError.from(error),
      });
      return undefined;
    }
  }

  /** Ends what belongs to no pod. */
  async recovered(): Promise<void> {
    const pods = [...this.#pods];
    await this.#options.recovered(new Set(pods.map(({ guest }) => guest.directory)));
  }

  /** See {@link Driver.onCallersLost}. */
  onCallersLost(listener: () => void): void {
    this.#options.onCallersLost?.(listener);
  }

  /** Leaves the pods to the next sandboxer: what they say from here on is kept for it. */
  async leave(): Promise<void> {
    const pods = [...this.#pods];
    if (pods.length > 0) await this.#options.keepOpen();
    await Promise.allSettled(pods.map((pod) => pod.leave()));
    await this.#options.leave(pods.length > 0);
  }

  async #restore(
    spec: SandboxSpec,
    request: SnapshotRequest,
    signal: AbortSignal,
  ): Promise<SandboxHandle> {
    const { files } = this.#context;
    const { starter } = this.#options;
    const directory = this.#directoryOf(spec.id);
    using _hold = this.#options.hold();
    await using undo = new AsyncDisposableStack();
    await makeDirectory(directory);
    undo.defer(() => removeDirectory(directory));
    const volumes = files.volumesOf(directory);
    undo.defer(() => volumes.release());
    const images = undo.use(new SnapshotImages(request, files));
    const { cpus } = request.record;
    const guest = await starter.restore({
      spec,
      cpus,
      directory: request.directory,
      images: (user) => images.take(user, signal),
    }, signal);
    undo.defer(() => guest.stop());
    const saved = await images.containers(guest, volumes);
    await writePodState(directory, { guest: guest.record, mayShare: false, isUsed: true });
    undo.move();
    const pod = this.#pod({
      spec,
      directory,
      guest,
      volumes,
      mayShare: false,
      isUsed: true,
      saved,
    });
    pod.takenOver();
    return pod;
  }

  #pod(parts: Omit<PodParts, "remove" | "onUsed">): VmPod {
    const remove = async () => {
      await removeDirectory(parts.directory);
      this.#pods.delete(pod);
    };
    const { directory, mayShare } = parts;
    const onUsed = () =>
      writePodState(directory, { guest: pod.guest.record, mayShare, isUsed: true });
    const pod: VmPod = new VmPod(this.#context, { ...parts, remove, onUsed });
    this.#pods.add(pod);
    return pod;
  }

  async #replace(pod: VmPod, old: Guest, signal: AbortSignal): Promise<Guest> {
    const { spec, directory, volumes } = pod;
    this.#options.log.info("starting a guest anew, with a shared tree", { sandbox: spec.id });
    await old.stop();
    const request = { spec, volumes, mustShare: true };
    const { guest } = await this.#options.starter.start(request, signal);
    try {
      await writePodState(directory, { guest: guest.record, mayShare: true, isUsed: false });
      return guest;
    } catch (error) {
      // What cannot be released has been logged, and is ended by the next sandboxer.
      await guest.stop().catch(() => undefined);
      throw error;
    }
  }

  /** Releases what containers of a guest that has gone had on the host. */
  async #releaseRest({ containers }: AdoptableSandbox, directory: string): Promise<void> {
    for (const { spec, record } of containers) {
      try {
        await this.#context.files.releaseLeft(record);
      } catch (error) {
        this.#options.log.warn("cannot release the files of a container", {
          container: spec.id,
          directory,
          error: SandboxError.from(error),
        });
      }
    }
  }

  /** Containerd's ids have 64 characters, which with their directory are too long for a socket. */
  #directoryOf(id: string): string {
    checkId("sandbox id", id);
    const digest = createHash("sha256").update(id).digest("hex");
    return `${this.#options.podDirectory}/${digest.slice(0, 16)}`;
  }
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true, mode: 0o711 });
  } catch (error) {
    throw SandboxError.from(error, `cannot make "${path}"`);
  }
}

async function removeDirectory(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
