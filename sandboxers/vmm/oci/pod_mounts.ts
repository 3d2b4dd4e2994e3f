/**
 * Mounts that a container shares with its pod: /dev/shm, and the files by which it knows names.
 *
 * @module
 */

import type { GuestMount, JsonObject } from "../../../guest/protocol/messages.ts";
import type { ContainerSpec } from "../../lifecycle/spec.ts";
import { objectsOf, stringOf, stringsOf } from "../../oci/json.ts";

/** Types of mounts that need nothing of the host. */
const GUEST_TYPES: ReadonlySet<string> = new Set([
  "proc",
  "sysfs",
  "tmpfs",
  "devpts",
  "mqueue",
  "cgroup",
  "cgroup2",
]);

const SHM = "/dev/shm";
/** What containerd and runc say of a /dev/shm whose size nobody has asked for. */
const SHM_DEFAULT_SIZE = "size=65536k";

const POD_FILES = [
  ["/etc/hosts", "hosts"],
  ["/etc/hostname", "hostname"],
  ["/etc/resolv.conf", "resolvConf"],
] as const;

/** The mounts of a config.json, taken apart. */
export interface SplitMounts {
  /** Those that stay in the config. */
  readonly own: readonly JsonObject[];
  /** Those that the container shares with its pod. */
  readonly pod: readonly GuestMount[];
}

/**
 * Takes the mounts of a config.json apart; bind mounts, which {@link ContainerSpec.mounts} has, are
 * in neither part.
 *
 * @param config The document.
 * @param spec The container.
 * @param sharesIpc Whether the pod's /dev/shm is its own too.
 */
export function splitMounts(
  config: JsonObject,
  spec: ContainerSpec,
  sharesIpc: boolean,
): SplitMounts {
  const mounts = objectsOf(config, "mounts").filter((mount) => isOfGuest(mount));
  const isPodShm = (mount: JsonObject) => sharesIpc && isDefaultShm(mount);
  const taken = new Set(
    [...spec.mounts, ...mounts.map(destinationOf)].map((mount) =>
      typeof mount === "string" ? mount : mount.destination
    ),
  );
  const files = POD_FILES.filter(([destination]) => !taken.has(destination));
  return {
    own: mounts.filter((mount) => !isPodShm(mount)),
    pod: [
      ...mounts.filter(isPodShm).map((mount): GuestMount => ({
        kind: "shm",
        destination: SHM,
        readonly: stringsOf(mount, "options").includes("ro"),
      })),
      ...files.map(([destination, file]): GuestMount => ({
        kind: "podFile",
        destination,
        file,
        readonly: spec.readonlyRootfs,
      })),
    ],
  };
}

function isOfGuest(mount: JsonObject): boolean {
  const options = stringsOf(mount, "options");
  if (options.includes("bind") || options.includes("rbind")) return false;
  return GUEST_TYPES.has(stringOf(mount, "type"));
}

function isDefaultShm(mount: JsonObject): boolean {
  if (destinationOf(mount) !== SHM || stringOf(mount, "type") !== "tmpfs") return false;
  const sizes = stringsOf(mount, "options").filter((option) => option.startsWith("size="));
  return sizes.every((size) => size === SHM_DEFAULT_SIZE);
}

/** Without a slash at its end. */
function destinationOf(mount: JsonObject): string {
  return stringOf(mount, "destination").replace(/(?<=.)\/+$/, "");
}
