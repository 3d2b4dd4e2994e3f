/**
 * The OCI configuration of a pod's root container: our own tiny program that waits for ever, in a
 * root file system with nothing else in it. gVisor's sandbox lives as long as that program.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { ResourceSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import type { JsonObject } from "../../oci/json.ts";
import { resourcesObject } from "../../oci/resources.ts";
import { typeAnnotations } from "./container_config.ts";
import { shmAnnotations } from "./shared_files.ts";

/** The program of root containers, in its root file system. */
export const PAUSE_PROGRAM = "/pause";

/** What a root container's configuration depends on beside the pod's specification. */
export interface SandboxSurroundings {
  /** The name by which runsc knows the pod. */
  readonly sandbox: string;
  /** The root file system of all root containers. */
  readonly rootfs: string;
  /** The name of its /dev/shm. */
  readonly shm: string;
  /** Host name inside. */
  readonly hostname: string;
  /** Its cgroup below each hierarchy's root; empty for none. */
  readonly cgroup: string;
}

/**
 * Makes the configuration.
 *
 * @param spec The pod.
 * @param surroundings See {@link SandboxSurroundings}.
 * @throws {SandboxError} `FailedPrecondition` for a network that gVisor cannot give.
 */
export function sandboxConfig(spec: SandboxSpec, surroundings: SandboxSurroundings): JsonObject {
  const { sandbox, rootfs, shm, hostname, cgroup } = surroundings;
  return {
    ociVersion: "1.0.2",
    process: {
      user: { uid: 0, gid: 0 },
      args: [PAUSE_PROGRAM],
      env: [],
      cwd: "/",
      capabilities: {},
      noNewPrivileges: true,
    },
    root: { path: rootfs, readonly: true },
    hostname,
    mounts: [],
    annotations: { ...typeAnnotations("sandbox", sandbox), ...shmAnnotations(shm) },
    linux: {
      ...(cgroup === "" ? {} : { cgroupsPath: cgroup }),
      resources: sandboxResources(spec.resources),
      namespaces: [
        ...["pid", "ipc", "uts", "mount"].map((type) => ({ type })),
        ...networkNamespace(spec),
      ],
    },
  };
}

/** Limits of a pod as runsc sets them at its cgroup. */
function sandboxResources(resources: ResourceSpec): JsonObject {
  const { cpusetCpus } = resources;
  const limits = resourcesObject(resources);
  if (cpusetCpus === undefined) return limits;
  const cpu = limits["cpu"];
  const rest = typeof cpu === "object" && cpu !== null && !Array.isArray(cpu) ? cpu : {};
  return { ...limits, cpu: { ...rest, cpus: cpusetCpus } };
}

/** None for the host's network, which runsc stays in. */
function networkNamespace({ id, network }: SandboxSpec): readonly JsonObject[] {
  switch (network.kind) {
    case "host":
      return [];
    case "none":
      return [{ type: "network" }];
    case "namespace":
      return [{ type: "network", path: network.path }];
    case "user":
      throw new SandboxError(
        "FailedPrecondition",
        `cannot start sandbox "${id}": gVisor has no network of a plain user's: choose none or host`,
      );
  }
}
