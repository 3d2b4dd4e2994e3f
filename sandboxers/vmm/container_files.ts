/**
 * What containers have of the host's files: the image of their root file system on a disk of their
 * machine, and their volumes. Made for a container, taken over by the next sandboxer, released.
 *
 * @module
 */

import type { GuestMount, GuestRootfs } from "../../guest/protocol/messages.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ContainerSpec, Json } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import type { Guest } from "./guest.ts";
import { type GuestContainer, guestContainer } from "./oci/guest_config.ts";
import { Members } from "./qemu/record.ts";
import {
  type ContainerVolumes,
  PodVolumes,
  type PodVolumesOptions,
} from "./storage/pod_volumes.ts";
import type { RootfsImage, RootfsImages } from "./storage/rootfs_images.ts";

/** What a {@link ContainerFilesOpener} works with. */
export interface ContainerFilesOptions {
  /** Makes images of root file systems. */
  readonly images: RootfsImages;
  /** Mounts volumes. */
  readonly mounter: PodVolumesOptions["mounter"];
  /** Where notes go. */
  readonly log: Log;
}

/** The image of a container's root file system. */
export interface ContainerImage {
  /** Where it is. */
  readonly path: string;
  /** The serial number of the disk that it is on. */
  readonly serial: string;
}

/** The files of one container. */
export interface ContainerFiles {
  /** What the next sandboxer needs; plain JSON. */
  readonly record: Json;
  /** Its configuration for the guest; missing for one that was taken over. */
  readonly config?: Pick<GuestContainer, "config" | "pidNamespace">;
  /** Its root file system, seen from the guest; missing for one that was taken over. */
  readonly rootfs?: GuestRootfs;
  /** The image of its root file system; missing where nothing is known of it. */
  readonly image?: ContainerImage;
  /** Its mounts, seen from the guest. */
  readonly mounts: readonly GuestMount[];
  /** Brings what it wrote for the host to the host, once it has ended. Never rejects. */
  readBack(): Promise<void>;
  /** Lets go of everything, after the guest has. May be called more than once. */
  release(): Promise<void>;
}

/** The files of a container that is about to be made. */
export type NewContainerFiles =
  & ContainerFiles
  & Required<Pick<ContainerFiles, "config" | "rootfs">>;

/** Opens the files of containers. */
export class ContainerFilesOpener {
  readonly #options: ContainerFilesOptions;

  /** Opens nothing yet. */
  constructor(options: ContainerFilesOptions) {
    this.#options = options;
  }

  /**
   * The volumes of a pod.
   *
   * @param directory The pod's directory.
   */
  volumesOf(directory: string): PodVolumes {
    const { mounter, log } = this.#options;
    return new PodVolumes({ directory, mounter, log });
  }

  /**
   * Brings a container's files to its guest.
   *
   * @param volumes Those of its pod.
   * @param guest Its guest.
   * @param spec The container; its root file system is in place.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} What cannot be had, with the reason; nothing is left then.
   */
  async open(
    volumes: PodVolumes,
    guest: Guest,
    spec: ContainerSpec,
    signal: AbortSignal,
  ): Promise<NewContainerFiles> {
    await using undo = new AsyncDisposableStack();
    undo.defer(() => volumes.forget(spec.id));
    const oci = await guestContainer(spec, { cpus: guest.cpus });
    const image = await this.#options.images.get(spec, guest.user, signal);
    undo.defer(() => image.release());
    const key = diskKey(image);
    const serial = await guest.disks.use(key, image.path, signal);
    undo.defer(() => detach(guest, key, this.#options.log));
    const own = await volumes.open(spec, guest, signal);
    undo.move();
    const { config, pidNamespace, mounts } = oci;
    return {
      ...this.#files(guest, { image, serial, key, volumes: own }, [...mounts, ...own.mounts]),
      config: { config, pidNamespace },
      rootfs: { kind: "disk", serial, fsType: image.format },
    };
  }

  /**
   * Takes over the files of a container that runs.
   *
   * @param record What {@link ContainerFiles.record} was.
   */
  async adopt(
    volumes: PodVolumes,
    guest: Guest,
    spec: ContainerSpec,
    record: Json,
  ): Promise<ContainerFiles> {
    const members = new Members(record, "container");
    const image = await this.#options.images.adopt(members.json("image"));
    const serial = members.text("serial");
    const key = members.text("key");
    guest.disks.keep(key, serial);
    const own = await volumes.adopt(spec.id, members.json("volumes"), guest);
    return this.#files(guest, { image, serial, key, volumes: own }, []);
  }

  /**
   * Takes an image of a snapshot for a container of it, whose machine is about to be made.
   *
   * @param id The container.
   * @param source The image.
   * @param user The user that the VMM will run as.
   * @param signal Aborted when the caller gave up.
   */
  async takeImage(
    id: string,
    source: string,
    user: Guest["user"],
    signal: AbortSignal,
  ): Promise<RootfsImage> {
    return await this.#options.images.take(id, source, user, signal);
  }

  /** Whether an image was made here, so that nobody ever writes to it. */
  ownsImage(path: string): boolean {
    return this.#options.images.owns(path);
  }

  /**
   * The files of a container that was saved with its guest.
   *
   * @param volumes Those of its pod.
   * @param guest Its guest, which has the image on a disk already.
   * @param id The container.
   * @param disk Its image and the serial number of the disk; the new object owns the image.
   */
  async restored(
    volumes: PodVolumes,
    guest: Guest,
    id: string,
    { image, serial }: { readonly image: RootfsImage; readonly serial: string },
  ): Promise<ContainerFiles> {
    // Containers with the same image had it on the same disk.
    const key = `disk ${serial}`;
    guest.disks.keep(key, serial);
    const none = await volumes.adopt(id, { sources: [] }, guest);
    return this.#files(guest, { image, serial, key, volumes: none }, []);
  }

  /**
   * Releases what a container had whose guest has gone.
   *
   * @param record What {@link ContainerFiles.record} was; null where it was never made.
   */
  async releaseLeft(record: Json): Promise<void> {
    if (record === null) return;
    const image = await this.#options.images.adopt(new Members(record, "container").json("image"));
    await image?.release();
  }

  #files(
    guest: Guest,
    parts: {
      readonly image: RootfsImage | undefined;
      readonly serial: string;
      readonly key: string;
      readonly volumes: ContainerVolumes;
    },
    mounts: readonly GuestMount[],
  ): ContainerFiles {
    const { image, serial, key, volumes } = parts;
    const { log } = this.#options;
    let released: Promise<void> | undefined;
    const release = async () => {
      await detach(guest, key, log);
      await image?.release();
      await volumes.release();
    };
    return {
      mounts,
      ...(image === undefined ? {} : { image: { path: image.path, serial } }),
      record: { serial, key, image: image?.record ?? null, volumes: volumes.record },
      readBack: () => volumes.readBack(),
      release: () => {
        released ??= release().catch((error: unknown) => {
          released = undefined;
          throw error;
        });
        return released;
      },
    };
  }
}

/** What names the content of an image: a shared one by its key, another by its path. */
function diskKey({ record, path }: RootfsImage): string {
  const key = new Members(record, "image").json("key");
  return typeof key === "string" ? key : path;
}

/** Takes a disk away. From a machine that has ended nothing has to be taken. */
async function detach(guest: Guest, key: string, log: Log): Promise<void> {
  if (guest.over) return;
  try {
    await guest.disks.release(key);
  } catch (error) {
    if (guest.over) return;
    log.warn("cannot take away the disk of a container", { error: SandboxError.from(error) });
    throw error;
  }
}
