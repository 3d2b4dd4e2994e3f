/**
 * The OCI configuration of a container as it holds inside of its pod's machine: containerd's own,
 * handed on nearly whole, so that crun in the guest gives what runc gives on a host; without what
 * is the host's: paths of namespaces, cgroups, hooks, security labels, devices, and bind mounts,
 * which volumes stand in for.
 *
 * @module
 */

import type {
  CreateContainerArgs,
  GuestMount,
  JsonObject,
} from "../../../guest/protocol/messages.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec } from "../../lifecycle/spec.ts";
import { readConfig } from "../../oci/config_file.ts";
import { objectOf, objectsOf, stringOf, stringsOf, without } from "../../oci/json.ts";
import { withoutHost } from "../../oci/process.ts";
import { guestDevices, isPrivileged } from "./devices.ts";
import { guestNamespaces } from "./namespaces.ts";
import { splitMounts } from "./pod_mounts.ts";
import { resourcesFor } from "./resources.ts";

export { execProcess as guestProcess } from "../../oci/process.ts";
export { resourcesObject as guestResources } from "../../oci/resources.ts";

/** Members of `linux` that are about the host, or that are made anew for the guest. */
const HOST_LINUX_MEMBERS = [
  "cgroupsPath",
  "devices",
  "gidMappings",
  "intelRdt",
  "mountLabel",
  "namespaces",
  "netDevices",
  "resources",
  "rootfsPropagation",
  "timeOffsets",
  "uidMappings",
];

/** A container's configuration for the guest. */
export interface GuestContainer extends Pick<CreateContainerArgs, "config" | "pidNamespace"> {
  /** What the container shares with its pod; what it sees of the host's files comes beside. */
  readonly mounts: readonly GuestMount[];
}

/** The guest, as far as configurations depend on it. */
export interface GuestShape {
  /** Its CPUs. */
  readonly cpus: number;
}

/**
 * Makes the configuration of a container: from its bundle's config.json, or from the specification
 * alone where it has no bundle.
 *
 * @param spec The container.
 * @param guest The machine that it runs in.
 * @throws {SandboxError} `InvalidArgument` for a document that cannot be read;
 *   `FailedPrecondition` for what no microVM can give, with what to do.
 */
export async function guestContainer(
  spec: ContainerSpec,
  guest: GuestShape,
): Promise<GuestContainer> {
  const config = await readConfig(spec);
  try {
    return convert(config, spec, guest);
  } catch (error) {
    const { code, message } = SandboxError.from(error);
    const name = `cannot run container "${spec.id}" in a microVM`;
    throw new SandboxError(code, `${name}: ${message}`, { cause: error });
  }
}

function convert(config: JsonObject, spec: ContainerSpec, guest: GuestShape): GuestContainer {
  refuseImpossible(config);
  const linux = objectOf(config, "linux");
  const resources = objectOf(linux, "resources");
  const namespaces = guestNamespaces(linux);
  const mounts = splitMounts(config, spec, namespaces.sharesIpc);
  return {
    config: {
      ociVersion: stringOf(config, "ociVersion") || "1.0.2",
      process: withoutHost(objectOf(config, "process")),
      root: { path: "rootfs", readonly: spec.readonlyRootfs },
      mounts: mounts.own,
      linux: {
        ...without(linux, HOST_LINUX_MEMBERS),
        namespaces: namespaces.list,
        devices: guestDevices(linux, isPrivileged(resources)),
        resources: resourcesFor(resources, guest.cpus),
      },
    },
    mounts: mounts.pod,
    pidNamespace: namespaces.pid,
  };
}

/** What would be given wrongly without a word. */
function refuseImpossible(config: JsonObject): void {
  for (const mount of objectsOf(config, "mounts")) {
    const options = stringsOf(mount, "options");
    if (!options.includes("shared") && !options.includes("rshared")) continue;
    throw new SandboxError(
      "FailedPrecondition",
      `mounts made in it at "${stringOf(mount, "destination")}" cannot reach the host: set the ` +
        "mount's propagation to None or HostToContainer",
    );
  }
  const seccomp = objectOf(objectOf(config, "linux"), "seccomp");
  if (stringOf(seccomp, "listenerPath") !== "") {
    throw new SandboxError(
      "FailedPrecondition",
      "system calls cannot be handed to a listener of the host: take listenerPath out of the " +
        "seccomp profile",
    );
  }
}
