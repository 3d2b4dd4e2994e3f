/**
 * What the containers of a pod share in gVisor: the pod's files, and one /dev/shm that is in the
 * sentry.
 *
 * @module
 */

import { type JsonObject, stringOf, stringsOf } from "../../oci/json.ts";
import { type PodFile, podFiles } from "../pod_files.ts";

const SHM = "/dev/shm";
/** What containerd and runc say of a /dev/shm whose size nobody has asked for. */
const SHM_DEFAULT_SIZE = "size=65536k";
/** How a pod's /dev/shm is mounted. */
const SHM_OPTIONS = ["nosuid", "noexec", "nodev", "mode=1777", SHM_DEFAULT_SIZE];
/**
 * Annotations of a pod by which runsc knows a mount that its containers share.
 * Source: google/gvisor runsc/boot/mount_hints.go.
 */
const SHM_HINT = "dev.gvisor.spec.mount.shm";

/** What a pod's containers share. */
export interface SharedFiles {
  /** The name of the /dev/shm; undefined for a container that has its own. */
  readonly shm: string | undefined;
  /** Files, and where containers see them unless they bring their own. */
  readonly files: readonly PodFile[];
}

/**
 * What the containers of a pod share, by the pod's directory.
 *
 * @param directory The pod's directory, with the files in it.
 */
export function sharedFiles(directory: string): SharedFiles & { readonly shm: string } {
  return { shm: `${directory}/shm`, files: podFiles(directory) };
}

/**
 * Annotations of a pod that has a /dev/shm which its containers share. It is in the sentry: nothing
 * of it is on the host.
 *
 * @param shm Its name, in the form of an absolute path.
 */
export function shmAnnotations(shm: string): JsonObject {
  return {
    [`${SHM_HINT}.source`]: shm,
    [`${SHM_HINT}.type`]: "tmpfs",
    [`${SHM_HINT}.share`]: "pod",
    [`${SHM_HINT}.options`]: SHM_OPTIONS.join(","),
  };
}

/**
 * The mount of a pod's /dev/shm in a container.
 *
 * @param shm Its name.
 * @param mount What the container asked for.
 */
export function podShm(shm: string, mount: JsonObject): JsonObject {
  const readonly = stringsOf(mount, "options").includes("ro");
  const options = readonly ? [...SHM_OPTIONS, "ro"] : SHM_OPTIONS;
  return { destination: SHM, type: "tmpfs", source: shm, options };
}

/** Whether a mount is a /dev/shm as everybody has it, which the pod's can stand in for. */
export function isDefaultShm(mount: JsonObject): boolean {
  const destination = stringOf(mount, "destination").replace(/(?<=.)\/+$/, "");
  if (destination !== SHM || stringOf(mount, "type") !== "tmpfs") return false;
  const sizes = stringsOf(mount, "options").filter((option) => option.startsWith("size="));
  return sizes.every((size) => size === SHM_DEFAULT_SIZE);
}
