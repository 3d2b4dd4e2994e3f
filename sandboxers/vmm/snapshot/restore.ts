/**
 * Makes a sandbox of a snapshot: a machine with the saved memory, in which the containers stand still
 * until they are taken over one by one.
 *
 * @module
 */

import type { Requests } from "../../../guest/protocol/messages.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec, StdioSpec } from "../../lifecycle/spec.ts";
import { newProcess, VmContainer } from "../container.ts";
import type { ContainerFiles, ContainerFilesOpener } from "../container_files.ts";
import type { Guest } from "../guest.ts";
import type { SavedContainer, VmPod } from "../pod.ts";
import type { PodVolumes } from "../storage/pod_volumes.ts";
import type { RootfsImage } from "../storage/rootfs_images.ts";
import { checkReadable } from "./reachable.ts";
import type { SnapshotContainer, SnapshotRecord } from "./record.ts";

/** A snapshot to make a sandbox of. */
export interface SnapshotRequest {
  /** The directory of the snapshot. */
  readonly directory: string;
  /** What it says of itself. */
  readonly record: SnapshotRecord;
  /** New ids of its containers, by those that they had. */
  readonly ids: ReadonlyMap<string, string>;
}

type Processes = Requests["inventory"]["result"]["containers"][number]["processes"];

/** Where the output of processes goes that nobody reads. */
const NO_STREAMS: StdioSpec = {
  stdin: { kind: "null" },
  stdout: { kind: "null" },
  stderr: { kind: "null" },
  terminal: false,
};

/** The images of a snapshot's containers, taken for a machine that is about to be made of it. */
export class SnapshotImages implements AsyncDisposable {
  readonly #request: SnapshotRequest;
  readonly #files: ContainerFilesOpener;
  readonly #images = new Map<string, RootfsImage>();

  /** Takes nothing yet. */
  constructor(request: SnapshotRequest, files: ContainerFilesOpener) {
    this.#request = request;
    this.#files = files;
  }

  /**
   * Takes them.
   *
   * @param user The user that the VMM will run as.
   * @param signal Aborted when the caller gave up.
   * @returns Where they are now, by the serial numbers of their disks.
   * @throws {SandboxError} Where one cannot be had; dispose of this then.
   */
  async take(user: Guest["user"], signal: AbortSignal): Promise<Map<string, string>> {
    const { directory, record } = this.#request;
    try {
      await checkReadable(directory, user);
    } catch (error) {
      const { code, message } = SandboxError.from(error);
      const action = `cannot use the snapshot in "${directory}"`;
      throw new SandboxError(code, `${action}: ${message}`, { cause: error });
    }
    const paths = new Map<string, string>();
    for (const container of record.containers) {
      const source = `${directory}/${container.image}`;
      const image = await this.#files.takeImage(this.#idOf(container), source, user, signal);
      this.#images.set(container.name, image);
      if (!paths.has(container.serial)) paths.set(container.serial, image.path);
    }
    return paths;
  }

  /**
   * The containers, in a guest that was made of the snapshot; images go with them from here on.
   * Containers of the guest that the snapshot does not know are deleted there.
   *
   * @param guest The guest.
   * @param volumes The volumes of its pod.
   * @returns By their new ids.
   */
  async containers(guest: Guest, volumes: PodVolumes): Promise<Map<string, SavedContainer>> {
    const { agent } = guest;
    const inventory = await agent.request("inventory", {});
    agent.useStreamsAfter(inventory.lastStream);
    const known = new Map(this.#request.record.containers.map((each) => [each.name, each]));
    const saved = new Map<string, SavedContainer>();
    for (const { container: name, state, processes } of inventory.containers) {
      const container = known.get(name);
      const image = this.#images.get(name);
      if (container === undefined || image === undefined || state !== "paused") {
        await agent.request("deleteContainer", { container: name });
        continue;
      }
      const { serial } = container;
      const id = this.#idOf(container);
      const files = await this.#files.restored(volumes, guest, id, { image, serial });
      const takeOver = (pod: VmPod, spec: ContainerSpec): Promise<VmContainer> =>
        Promise.resolve(containerOf(pod, spec, name, processes, files));
      saved.set(id, { name, takeOver, release: () => files.release() });
    }
    for (const container of this.#request.record.containers) {
      if (saved.has(this.#idOf(container))) continue;
      throw new SandboxError(
        "FailedPrecondition",
        `container "${container.id}" of the snapshot is not in its memory`,
      );
    }
    this.#images.clear();
    return saved;
  }

  /** Lets go of images that did not go with a container. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const image of this.#images.values()) await image.release();
    this.#images.clear();
  }

  #idOf({ id }: SnapshotContainer): string {
    const given = this.#request.ids.get(id);
    if (given !== undefined) return given;
    throw new SandboxError("InvalidArgument", `container "${id}" of the snapshot has no new id`);
  }
}

/** Takes over the streams of a container's processes: the first one's go where they are asked to. */
function containerOf(
  pod: VmPod,
  spec: ContainerSpec,
  name: string,
  processes: Processes,
  files: ContainerFiles,
): VmContainer {
  const label = `container "${spec.id}"`;
  const adopt = (exec: string, stdio: StdioSpec) => {
    const guest = processes.find((process) => process.exec === exec)?.stdio ?? {};
    return newProcess(pod, { container: name, exec }, {
      streams: pod.streams.adopt(stdio, guest, exec === "" ? label : `exec "${exec}" of ${label}`),
    });
  };
  for (const { exec } of processes) {
    if (exec !== "") adopt(exec, NO_STREAMS);
  }
  return new VmContainer(pod, spec, files, adopt("", spec.stdio), "resume");
}
