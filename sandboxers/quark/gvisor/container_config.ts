/**
 * The OCI configuration of a container as runsc gets it: containerd's own, handed on nearly whole;
 * without what is the host's (hooks, cgroups, security labels, user mappings), and with the files
 * that all containers of a pod share.
 *
 * Source of what runsc reads: google/gvisor runsc/specutils/specutils.go and
 * runsc/boot/mount_hints.go, release 20240729.0.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { type ContainerSpec, rootfsPath } from "../../lifecycle/spec.ts";
import { readConfig } from "../../oci/config_file.ts";
import {
  type JsonObject,
  objectOf,
  objectsOf,
  only,
  stringOf,
  stringsOf,
  without,
} from "../../oci/json.ts";
import { withoutHost } from "../../oci/process.ts";
import { hiddenPaths } from "./hidden_paths.ts";
import { isDefaultShm, podShm, type SharedFiles } from "./shared_files.ts";

/** What makes a container one of a pod. Source: google/gvisor runsc/specutils/cri.go. */
const TYPE_ANNOTATION = "io.kubernetes.cri.container-type";
const SANDBOX_ANNOTATION = "io.kubernetes.cri.sandbox-id";
/** The annotation by which a container is found again in a snapshot. */
export const NAME_ANNOTATION = "io.kubernetes.cri.container-name";
/** What else runsc may know: names, for its logs. All other annotations could change its flags. */
const KEPT_ANNOTATIONS = [NAME_ANNOTATION, "io.kubernetes.cri.sandbox-name"];

/** Members of `linux` that gVisor can give; the rest is the host's or is nothing to it. */
const KEPT_LINUX_MEMBERS = ["devices", "seccomp"];

/** File systems that gVisor has of its own. */
const OWN_TYPES: ReadonlySet<string> = new Set([
  "cgroup",
  "devpts",
  "devtmpfs",
  "mqueue",
  "proc",
  "sysfs",
  "tmpfs",
]);

/** What a container's configuration depends on beside its specification. */
export interface ConfigSurroundings {
  /** The name by which runsc knows the pod. */
  readonly sandbox: string;
  /**
   * The name of a container that brings none. In snapshots containers are known by their names; those
   * of runsc's own are no good, as they count what has been deleted as well.
   */
  readonly name: string;
  /** What it shares with the others of its pod. */
  readonly files: SharedFiles;
  /** Where an empty file is made, an absolute path; only where one is needed. */
  readonly empty: string;
}

/** A container's configuration for runsc. */
export interface ContainerConfig {
  /** The config.json. */
  readonly document: JsonObject;
  /** Whether it has the pod's processes, not its own. */
  readonly sharesPids: boolean;
}

/** The annotations by which runsc knows what a container is. */
export function typeAnnotations(type: "sandbox" | "container", sandbox: string): JsonObject {
  return { [TYPE_ANNOTATION]: type, [SANDBOX_ANNOTATION]: sandbox };
}

/**
 * Makes the configuration of a container: from its bundle's config.json, or from the specification
 * alone where it has no bundle.
 *
 * @param spec The container.
 * @param surroundings See {@link ConfigSurroundings}.
 * @throws {SandboxError} `InvalidArgument` for a document that cannot be read;
 *   `FailedPrecondition` for what gVisor cannot give, with what to do.
 */
export async function containerConfig(
  spec: ContainerSpec,
  surroundings: ConfigSurroundings,
): Promise<ContainerConfig> {
  const config = await readConfig(spec);
  try {
    const { document, sharesPids } = convert(config, spec, surroundings);
    const places = { rootfs: rootfsPath(spec.rootfs), empty: surroundings.empty };
    const hidden = await hiddenPaths(config, places);
    const mounts = [...objectsOf(document, "mounts"), ...hidden];
    return { document: { ...document, mounts }, sharesPids };
  } catch (error) {
    const { code, message } = SandboxError.from(error);
    const name = `cannot run container "${spec.id}" in gVisor`;
    throw new SandboxError(code, `${name}: ${message}`, { cause: error });
  }
}

/**
 * Refuses a configuration that gVisor would give wrongly without a word.
 *
 * @param config The config.json.
 * @throws {SandboxError} `FailedPrecondition`, with what to do.
 */
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
  if (stringOf(objectOf(objectOf(config, "linux"), "seccomp"), "listenerPath") !== "") {
    throw new SandboxError(
      "FailedPrecondition",
      "system calls cannot be handed to a listener of the host: take listenerPath out of the " +
        "seccomp profile",
    );
  }
}

function convert(
  config: JsonObject,
  spec: ContainerSpec,
  { sandbox, name, files }: Omit<ConfigSurroundings, "empty">,
): ContainerConfig {
  refuseImpossible(config);
  const linux = objectOf(config, "linux");
  const namespaces = namespacesOf(linux);
  const document = {
    ociVersion: stringOf(config, "ociVersion") || "1.0.2",
    process: {
      ...withoutHost(objectOf(config, "process")),
      terminal: spec.stdio.terminal,
    },
    root: { path: rootfsPath(spec.rootfs), readonly: spec.readonlyRootfs },
    mounts: mountsOf(config, spec, namespaces.sharesIpc ? files : { ...files, shm: undefined }),
    annotations: {
      [NAME_ANNOTATION]: name,
      ...only(objectOf(config, "annotations"), KEPT_ANNOTATIONS),
      ...typeAnnotations("container", sandbox),
    },
    linux: { ...only(linux, KEPT_LINUX_MEMBERS), namespaces: namespaces.list },
  };
  return { document, sharesPids: namespaces.sharesPids };
}

/**
 * What a container has of its own. gVisor has one IPC, host name and network per pod; without a pid
 * namespace a container has the pod's.
 */
function namespacesOf(linux: JsonObject) {
  const own = new Set(
    objectsOf(linux, "namespaces")
      .filter((namespace) => stringOf(namespace, "path") === "")
      .map((namespace) => stringOf(namespace, "type")),
  );
  const types = own.has("pid") ? ["mount", "pid"] : ["mount"];
  return {
    list: types.map((type) => ({ type })),
    sharesIpc: !own.has("ipc"),
    sharesPids: !own.has("pid"),
  };
}

function mountsOf(
  config: JsonObject,
  spec: ContainerSpec,
  { shm, files }: SharedFiles,
): readonly JsonObject[] {
  const mounts = objectsOf(config, "mounts");
  const given = spec.bundle === "" ? [...mounts, ...bindsOf(spec)] : mounts;
  const kept = given.filter((mount) => isBind(mount) || OWN_TYPES.has(stringOf(mount, "type")));
  const taken = new Set(kept.map(destinationOf));
  return [
    ...kept.map((mount) => {
      if (isBind(mount)) return { ...mount, type: "bind", options: bindOptions(mount) };
      if (shm !== undefined && isDefaultShm(mount)) return podShm(shm, mount);
      return without(mount, ["source"]);
    }),
    ...files.filter(({ destination }) => !taken.has(destination)).map((file) => ({
      destination: file.destination,
      type: "bind",
      source: file.source,
      options: ["rbind", "rprivate", spec.readonlyRootfs ? "ro" : "rw"],
    })),
  ];
}

/** Mounts of a container that came without a document. */
function bindsOf({ mounts }: ContainerSpec): readonly JsonObject[] {
  return mounts.map(({ source, destination, readonly }) => ({
    destination,
    source,
    type: "bind",
    options: ["rbind", readonly ? "ro" : "rw"],
  }));
}

function isBind(mount: JsonObject): boolean {
  const options = stringsOf(mount, "options");
  return options.includes("bind") || options.includes("rbind") ||
    stringOf(mount, "type") === "bind";
}

/** Without propagation to where gVisor has none, which it would refuse. */
function bindOptions(mount: JsonObject): readonly string[] {
  const options = stringsOf(mount, "options").filter((option) => option !== "rro");
  return stringsOf(mount, "options").includes("rro") ? [...options, "ro"] : options;
}

/** Without a slash at its end. */
function destinationOf(mount: JsonObject): string {
  return stringOf(mount, "destination").replace(/(?<=.)\/+$/, "");
}
