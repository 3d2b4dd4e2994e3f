/**
 * The host's files that containers of a pod see. Each bind mount is brought to the guest in the
 * cheapest way that gives what was asked for: Kubernetes' emptyDir as memory of the guest; what is
 * small and only read as a copy that is kept up to date; the termination log as a copy that is read
 * back; all else through the shared tree, where the pod has one. In a pod with a shared tree
 * everything goes through that.
 *
 * @module
 */

import type { GuestMount } from "../../../guest/protocol/messages.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import { Serial } from "../../lifecycle/serial.ts";
import {
  type BindMountSpec,
  type ContainerSpec,
  type Json,
  rootfsPath,
} from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import type { Agent } from "../agent.ts";
import {
  type BoundSource,
  BoundSources,
  type SourceMounter,
  type WantedSource,
} from "../../host/bound_sources.ts";
import { hashOf } from "./key.ts";
import { once } from "./once.ts";
import { readBack } from "./read_back.ts";
import { scanTree, type TreeLimits } from "./tree_scan.ts";
import { SINGLE_FILE } from "./volume_entries.ts";
import { placeOf, type VolumePlace } from "./volume_place.ts";
import { parseVolumeRecord, type SourceRecord } from "./volume_record.ts";
import { VolumeStates } from "./volume_state.ts";
import { VolumeSync } from "./volume_sync.ts";

/** How large a volume may be that is copied to the guest's memory, unless it is said otherwise. */
export const COPY_LIMITS: TreeLimits = { bytesMax: 16 << 20, entriesMax: 1_000 };

/** How long the guest may take to take note of files, in milliseconds. */
const SYNC_MS = 30_000;

/** What a {@link PodVolumes} works with. */
export interface PodVolumesOptions {
  /** The pod's own directory; `share` and `volumes` in it are made when they are needed. */
  readonly directory: string;
  /** Mounts the sources. */
  readonly mounter: SourceMounter;
  /** How large a volume may be that is copied (default {@link COPY_LIMITS}). */
  readonly copyLimits?: TreeLimits;
  /** For what went wrong and was survived. */
  readonly log: Log;
}

/** The guest of a pod, as far as volumes need it. */
export interface VolumeGuest {
  /** The agent in it. */
  readonly agent: Agent;
  /** Whether it has the shared tree. */
  readonly hasSharedTree: boolean;
}

/** What a container has of the host's files. */
export interface ContainerVolumes {
  /** Its mounts, in order. */
  readonly mounts: readonly GuestMount[];
  /** What {@link PodVolumes.adopt} needs later. */
  readonly record: Json;
  /**
   * Brings what the container has written for the host to the host. Call it when the container has
   * ended, before anybody hears of that. Never rejects.
   */
  readBack(): Promise<void>;
  /** Lets go of all of it, after the guest has. May be called more than once. */
  release(): Promise<void>;
}

/** A source that is mounted for at least one container. */
interface Source {
  readonly bound: BoundSource;
  readonly users: Set<string>;
  sync: VolumeSync | undefined;
}

/** How a container's mount is made. */
interface Opened {
  readonly mount: GuestMount;
  readonly source?: SourceRecord;
}

/** The volumes of one pod. */
export class PodVolumes {
  readonly #options: PodVolumesOptions;
  readonly #bound: BoundSources;
  readonly #states: VolumeStates;
  readonly #sources = new Map<string, Source>();
  readonly #serial = new Serial();
  #released = false;

  /** Makes nothing yet. */
  constructor(options: PodVolumesOptions) {
    this.#options = options;
    this.#bound = new BoundSources(options.mounter, `${options.directory}/share`);
    this.#states = new VolumeStates(`${options.directory}/volumes`);
  }

  /** The directory that a file server shares with the guest. */
  get treeDirectory(): string {
    return this.#bound.directory;
  }

  /** Makes {@link PodVolumes.treeDirectory}. */
  async prepareTree(): Promise<void> {
    await this.#bound.prepare();
  }

  /**
   * Whether a container can only be had in a guest with a shared tree.
   *
   * @param spec The container.
   * @param signal Aborted when the caller gave up.
   * @returns Why, such as `the volume "/a" at "/b", which can be written to,`; undefined where it can
   *   be had without. Then {@link PodVolumes.open} or {@link PodVolumes.forget} has to follow.
   * @throws {SandboxError} `FailedPrecondition`, `InvalidArgument` for what cannot be had at all.
   */
  async whySharedTree(spec: ContainerSpec, signal: AbortSignal): Promise<string | undefined> {
    return await this.#serial.run(async () => {
      const undo = async () => await this.#forget(spec.id);
      try {
        await this.#bind(spec, false, signal);
        for (const mount of spec.mounts) {
          throwIfAborted(signal, `cannot create container "${spec.id}"`);
          const reason = await this.#whyShared(mount);
          if (reason === undefined) continue;
          await undo();
          return `the volume "${mount.source}" at "${mount.destination}", which ${reason},`;
        }
        return undefined;
      } catch (error) {
        await undo().catch(() => {});
        throw error;
      }
    });
  }

  /**
   * Brings a container's volumes to its guest.
   *
   * @param spec The container.
   * @param guest The guest; from here on it must stay the pod's.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} `FailedPrecondition` for what this guest cannot be given,
   *   `InvalidArgument` for a source that is not there; what the guest answers. Nothing is left then.
   */
  async open(
    spec: ContainerSpec,
    guest: VolumeGuest,
    signal: AbortSignal,
  ): Promise<ContainerVolumes> {
    const { id } = spec;
    return await this.#serial.run(async () => {
      try {
        await this.#bind(spec, guest.hasSharedTree, signal);
        const opened: Opened[] = [];
        for (const mount of spec.mounts) {
          throwIfAborted(signal, `cannot create container "${id}"`);
          opened.push(await this.#open(id, mount, guest, signal));
        }
        const sources = opened.flatMap(({ source }) => source === undefined ? [] : [source]);
        return this.#volumes(id, opened.map(({ mount }) => mount), sources, guest);
      } catch (error) {
        await this.#forget(id).catch(() => {});
        throw error;
      }
    });
  }

  /**
   * Puts the root file system of a container into the shared tree.
   *
   * @param spec The container; its root file system is in place. It goes with its volumes.
   * @returns Its path in the tree.
   */
  async shareRootfs(spec: ContainerSpec): Promise<string> {
    return await this.#serial.run(async () => {
      // What the container writes stays in the guest, on top of it.
      const wanted = { source: rootfsPath(spec.rootfs), readonly: true, isFile: false };
      await this.#bindSources(spec.id, [wanted]);
      return this.#sourceOf(wanted).bound.name;
    });
  }

  /**
   * Takes over the volumes of a container that runs, from an earlier process.
   *
   * @param id The container.
   * @param record What {@link ContainerVolumes.record} was.
   * @param guest Its guest.
   */
  async adopt(id: string, record: Json, guest: VolumeGuest): Promise<ContainerVolumes> {
    const sources = parseVolumeRecord(record);
    return await this.#serial.run(async () => {
      for (const known of sources) {
        const key = keyOf(known);
        const source = this.#sources.get(key) ??
          { bound: known, users: new Set<string>(), sync: undefined };
        this.#bound.keep(known);
        this.#sources.set(key, source);
        source.users.add(id);
        if (known.volume === null || known.isResult) continue;
        source.sync ??= await this.#newSync(known.volume, source, guest);
        source.sync.watch();
      }
      return this.#volumes(id, [], sources, guest);
    });
  }

  /** Lets go of what {@link PodVolumes.whySharedTree} has mounted for a container. */
  async forget(id: string): Promise<void> {
    await this.#serial.runAlways(() => this.#forget(id));
  }

  /** Removes what an earlier process has left and nobody has taken over. */
  async sweep(): Promise<void> {
    await this.#serial.run(async () => {
      await this.#bound.sweep(new Set([...this.#sources.values()].map(({ bound }) => bound.name)));
    });
  }

  /**
   * Removes everything, also what an earlier process has left; the guest has ended. May be called
   * more than once. Where it fails something of the host may still be mounted below the pod's
   * directory: that must not be removed then.
   */
  async release(): Promise<void> {
    await this.#serial.runAlways(async () => {
      // Nothing is mounted from here on: whoever removes the pod's directory must find nothing there.
      this.#released = true;
      for (const { sync } of this.#sources.values()) sync?.[Symbol.dispose]();
      this.#sources.clear();
      await this.#bound.clear();
      await this.#states.clear();
    });
  }

  #volumes(
    id: string,
    mounts: readonly GuestMount[],
    sources: readonly SourceRecord[],
    { agent }: VolumeGuest,
  ): ContainerVolumes {
    const { log } = this.#options;
    const results = sources.filter(({ isResult }) => isResult);
    return {
      mounts,
      record: { sources: sources.map((source) => ({ ...source })) },
      readBack: async () => {
        for (const { name, volume } of results) {
          if (volume === null) continue;
          await readBack(agent, volume, this.#bound.pathOf(name)).catch((error) => {
            const fields = { container: id, error: SandboxError.from(error).message };
            log.warn("what a container has written for the host cannot be read", fields);
          });
        }
      },
      release: once(() => this.forget(id)),
    };
  }

  /** @returns Why a mount can only be had through a shared tree. */
  async #whyShared(mount: BindMountSpec): Promise<string | undefined> {
    const place = placeOf(mount);
    if (place === "shm" || place === "emptyDirectory") return undefined;
    const { bound } = this.#sourceOf(wantedSource(mount, place, false));
    return await this.#whyNoCopy(bound, mount, place);
  }

  /** Mounts all sources of a container that are not mounted. */
  async #bind(
    { id, mounts }: ContainerSpec,
    hasSharedTree: boolean,
    signal: AbortSignal,
  ): Promise<void> {
    throwIfAborted(signal, `cannot create container "${id}"`);
    const sources = mounts.flatMap((mount) => {
      const place = placeOf(mount);
      return place === "shm" ? [] : [wantedSource(mount, place, hasSharedTree)];
    });
    await this.#bindSources(id, sources);
  }

  async #bindSources(id: string, wanted: readonly WantedSource[]): Promise<void> {
    if (this.#released) {
      throw new SandboxError(
        "FailedPrecondition",
        `container "${id}" is too late: its pod has ended`,
      );
    }
    const missing = new Map(wanted.map((source) => [keyOf(source), source]));
    for (const key of this.#sources.keys()) missing.delete(key);
    const bound = await this.#bound.add([...missing.values()]);
    for (const source of bound) {
      this.#sources.set(keyOf(source), { bound: source, users: new Set(), sync: undefined });
    }
    for (const source of wanted) this.#sourceOf(source).users.add(id);
  }

  #sourceOf(wanted: Pick<WantedSource, "source" | "readonly">): Source {
    const source = this.#sources.get(keyOf(wanted));
    if (source !== undefined) return source;
    throw new SandboxError("Internal", `the volume "${wanted.source}" was not mounted`);
  }

  async #open(
    id: string,
    mount: BindMountSpec,
    guest: VolumeGuest,
    signal: AbortSignal,
  ): Promise<Opened> {
    const { destination, readonly } = mount;
    const place = placeOf(mount);
    if (place === "shm") return { mount: { kind: "shm", destination, readonly } };
    const source = this.#sourceOf(wantedSource(mount, place, guest.hasSharedTree));
    if (guest.hasSharedTree) {
      await this.#refuseSpecial(source.bound, mount);
      return {
        mount: { kind: "shared", path: source.bound.name, destination, readonly },
        source: { ...source.bound, volume: null, isResult: false },
      };
    }
    if (place === "emptyDirectory") {
      return {
        mount: await this.#memory(source.bound, mount),
        source: { ...source.bound, volume: null, isResult: false },
      };
    }
    const reason = await this.#whyNoCopy(source.bound, mount, place);
    if (reason !== undefined) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot mount "${mount.source}" at "${destination}", which ${reason}: the pod has no ` +
          `shared tree: give it the annotation "quasaur.dev/share-fs: virtiofs"`,
      );
    }
    const volume = `v-${hashOf([mount.source, source.bound.readonly]).slice(0, 32)}`;
    const isResult = place === "result";
    source.sync ??= await this.#newSync(volume, source, guest);
    throwIfAborted(signal, `cannot create container "${id}"`);
    await source.sync.update();
    // What the container writes is not to be written over.
    if (!isResult) source.sync.watch();
    const path = await this.#isFile(source.bound) ? SINGLE_FILE : ".";
    return {
      mount: { kind: "volume", volume, path, destination, readonly },
      source: { ...source.bound, volume, isResult },
    };
  }

  /** An emptyDir in the guest's memory: the same for all containers that name it. */
  async #memory(
    { name, source }: BoundSource,
    { destination, readonly }: BindMountSpec,
  ): Promise<GuestMount> {
    const { mode, uid, gid } = await Deno.stat(this.#bound.pathOf(name));
    const owner = { mode: (mode ?? 0o777) & 0o7777, uid: uid ?? 0, gid: gid ?? 0 };
    const memory = `m-${hashOf([source]).slice(0, 32)}`;
    return { kind: "memory", name: memory, destination, readonly, owner };
  }

  async #newSync(volume: string, { bound }: Source, { agent }: VolumeGuest): Promise<VolumeSync> {
    const { copyLimits = COPY_LIMITS, log } = this.#options;
    return new VolumeSync({
      source: this.#bound.pathOf(bound.name),
      limits: copyLimits,
      send: async (entries) => {
        await agent.request("volumeSync", { volume, entries }, { timeoutMs: SYNC_MS });
      },
      remember: (tree) => this.#states.write(volume, tree),
      log: log.child({ volume: bound.source }),
    }, await this.#states.read(volume));
  }

  /** @returns Why a source cannot be copied to the guest. */
  async #whyNoCopy(
    bound: BoundSource,
    mount: BindMountSpec,
    place: VolumePlace,
  ): Promise<string | undefined> {
    await this.#refuseSpecial(bound, mount);
    const isOwnFile = (place === "result" || place === "podFile") && await this.#isFile(bound);
    if (!mount.readonly && !isOwnFile) return "can be written to";
    const { copyLimits = COPY_LIMITS } = this.#options;
    const scan = await scanTree(this.#bound.pathOf(bound.name), copyLimits);
    return scan.kind === "tree" ? undefined : scan.reason.replace(/^it /, "");
  }

  /** Sockets and devices connect to the host's kernel, which a guest does not run on. */
  async #refuseSpecial({ name }: BoundSource, mount: BindMountSpec): Promise<void> {
    const { isFile, isDirectory, isSocket } = await Deno.stat(this.#bound.pathOf(name));
    if (isFile || isDirectory) return;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot mount "${mount.source}" at "${mount.destination}": it is a ` +
        `${isSocket ? "socket" : "device or FIFO"} of the host, which nothing in a microVM can ` +
        "open: take the mount out, or run the pod with another runtime",
    );
  }

  async #isFile({ name }: BoundSource): Promise<boolean> {
    return (await Deno.stat(this.#bound.pathOf(name))).isFile;
  }

  async #forget(id: string): Promise<void> {
    const unused = [...this.#sources].filter(([, { users }]) => users.has(id) && users.size === 1);
    for (const [, { sync }] of unused) sync?.[Symbol.dispose]();
    await this.#bound.remove(unused.map(([, { bound }]) => bound.name));
    for (const [key] of unused) this.#sources.delete(key);
    for (const { users } of this.#sources.values()) users.delete(id);
  }
}

/** How a source is mounted on the host: to be written to only where the container's writing counts. */
function wantedSource(
  { source, readonly }: BindMountSpec,
  place: VolumePlace,
  hasSharedTree: boolean,
): WantedSource {
  const staysInGuest = !hasSharedTree && (place === "podFile" || place === "emptyDirectory");
  const isFile = place === "podFile" || place === "result";
  return { source, readonly: readonly || staysInGuest, isFile };
}

function keyOf({ source, readonly }: Pick<WantedSource, "source" | "readonly">): string {
  return `${readonly ? "ro" : "rw"}:${source}`;
}
