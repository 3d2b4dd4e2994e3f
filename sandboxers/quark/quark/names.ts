/**
 * Names and places: how Quark's sandbox and its containers are called, and where their files lie.
 * Quark makes the pod's bundle its root directory and looks for a container's bundle in the directory
 * of the container's name there; so those names are ours to choose.
 *
 * Source: QuarkContainer/Quark qvisor/src/runc/cmd/sandbox.rs and runc/shim/container.rs; the length
 * of a sandbox's name: runc/runtime/vm_type/noncc.rs.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** Names as Quark needs them for sandboxes: exactly 64 characters. containerd's CRI has such ids. */
const FULL = /^[0-9a-f]{64}$/;

/** The places of a pod on the host. */
export interface PodPlaces {
  /** The pod's own directory. */
  readonly directory: string;
  /** The bundle: Quark's root directory. */
  readonly bundle: string;
  /** The socket at which Quark serves tasks. */
  readonly socket: string;
  /** The file in which it says its process id. */
  readonly pidFile: string;
  /** What it writes before it has a log of its own. */
  readonly log: string;
}

/**
 * The places of a pod. Ids have up to 128 characters, which are too many for a socket's path.
 *
 * @param podDirectory The directory of all pods' directories.
 * @param id The sandbox.
 */
export function podPlaces(podDirectory: string, id: string): PodPlaces {
  return placesIn(`${podDirectory}/${digest(id).slice(0, 16)}`);
}

/**
 * The places in a pod's directory.
 *
 * @param directory The pod's directory.
 */
export function placesIn(directory: string): PodPlaces {
  return {
    directory,
    bundle: `${directory}/sandbox`,
    socket: `${directory}/task.sock`,
    pidFile: `${directory}/pid`,
    log: `${directory}/quark.log`,
  };
}

/**
 * What Quark calls a sandbox.
 *
 * @param id The sandbox.
 */
export function sandboxName(id: string): string {
  return FULL.test(id) ? id : digest(id);
}

/**
 * What Quark calls a container: its id where that can be; never like its sandbox, which Quark would
 * take for it, nor like a container that it had before, whose name it does not give free, nor like
 * anything else that lies in the bundle.
 *
 * @param id The container.
 * @param taken Names that cannot be had.
 */
export function containerName(id: string, taken: ReadonlySet<string>): string {
  return FULL.test(id) && !taken.has(id) ? id : digest(`${id} ${crypto.randomUUID()}`);
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
