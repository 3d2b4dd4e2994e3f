/**
 * Where a bind mount of a container can live, by its paths alone: what kubelet's directories say of
 * it, and what no microVM can be given.
 *
 * Sources: Kubernetes pkg/kubelet/kubelet_getters.go and pkg/volume/emptydir for kubelet's
 * directories; containerd internal/cri/server/container_create.go for those of CRI.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { BindMountSpec } from "../../lifecycle/spec.ts";

/** Where a bind mount can live. */
export type VolumePlace =
  /** The pod's /dev/shm. */
  | "shm"
  /** A directory that begins empty with the pod and ends with it. */
  | "emptyDirectory"
  /** A small file that the container may write and the host reads when the container has ended. */
  | "result"
  /** A small file that each pod has for itself: what a container writes there stays in the guest. */
  | "podFile"
  /** Anything else: what is there decides. */
  | "source";

/** Names of /dev/shm directories: the host's own, and those that containerd makes for pods. */
const SHM_SOURCE = /^\/dev\/shm$|\/io\.containerd\.grpc\.v1\.cri\/sandboxes\/[^/]+\/shm$/;
const EMPTY_DIRECTORY = /\/volumes\/kubernetes\.io~empty-dir\/[^/]+$/;
/** The termination log, wherever the container sees it. */
const RESULT_SOURCE = /\/pods\/[^/]+\/containers\/[^/]+\/[^/]+$/;
const RESULT_DESTINATION = "/dev/termination-log";
const POD_FILE_SOURCE =
  /\/pods\/[^/]+\/etc-hosts$|\/io\.containerd\.grpc\.v1\.cri\/sandboxes\/[^/]+\/(hosts|hostname|resolv\.conf)$/;
const POD_FILE_DESTINATIONS = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
/** File systems by which a kernel speaks of itself. */
const KERNEL_TREES = ["/dev", "/proc", "/sys"];

/**
 * Says where a bind mount can live.
 *
 * @param mount The mount.
 * @throws {SandboxError} `FailedPrecondition` for devices and the kernel's own file systems.
 */
export function placeOf({ source, destination, readonly }: BindMountSpec): VolumePlace {
  const path = source.replace(/(?<=.)\/+$/, "");
  if (destination === "/dev/shm" && SHM_SOURCE.test(path)) return "shm";
  const tree = KERNEL_TREES.find((tree) => path === tree || path.startsWith(`${tree}/`));
  if (tree !== undefined && !path.startsWith("/dev/shm/")) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot mount "${source}" at "${destination}": "${tree}" of the host means nothing to the ` +
        "kernel of a microVM: take the mount out, or run the pod with another runtime",
    );
  }
  if (EMPTY_DIRECTORY.test(path)) return "emptyDirectory";
  if (readonly) return "source";
  if (destination === RESULT_DESTINATION || RESULT_SOURCE.test(path)) return "result";
  if (POD_FILE_SOURCE.test(path) || POD_FILE_DESTINATIONS.includes(destination)) return "podFile";
  return "source";
}
