/**
 * The config.json of a container's bundle: containerd's own, with what Quark can read and without
 * what was done for it already (the root file system, bind mounts) or is the host's. Quark gives up,
 * for good, at a name that it does not know: so names that are younger than it are left out.
 *
 * Source: QuarkContainer/Quark qvisor/src/runc/oci/mod.rs; kuasar-io/kuasar quark/src/sandbox.rs
 * (append_container).
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { ContainerSpec, ProcessSpec } from "../../lifecycle/spec.ts";
import { readConfig } from "../../oci/config_file.ts";
import {
  type JsonObject,
  numberOf,
  objectOf,
  objectsOf,
  only,
  stringOf,
  stringsOf,
} from "../../oci/json.ts";
import { execProcess, withoutHost } from "../../oci/process.ts";

/** By these Quark knows a container of a pod from a sandbox. Source: qvisor/src/runc/specutils. */
const TYPE_ANNOTATION = "io.kubernetes.cri.container-type";
const SANDBOX_ANNOTATION = "io.kubernetes.cri.sandbox-id";

/** Members of `process` that Quark has. */
const PROCESS_MEMBERS = ["args", "env", "cwd", "noNewPrivileges", "consoleSize"];
/** Members of `linux` that mean something in Quark's kernel; it applies no seccomp profile. */
const LINUX_MEMBERS = ["maskedPaths", "readonlyPaths", "sysctl"];
/** Limits that Quark can read. */
const RESOURCES: Readonly<Record<string, readonly string[]>> = {
  memory: ["limit", "reservation", "swap"],
  cpu: ["shares", "quota", "period"],
  pids: ["limit"],
};
/** Namespaces that Quark knows by name. */
const NAMESPACES: ReadonlySet<string> = new Set([
  "cgroup",
  "ipc",
  "mount",
  "network",
  "pid",
  "uts",
]);
/** File systems that Quark mounts for a container. */
const OWN_TYPES: ReadonlySet<string> = new Set([
  "cgroup",
  "devpts",
  "mqueue",
  "proc",
  "sysfs",
  "tmpfs",
]);

/** Capabilities up to CAP_AUDIT_READ: Linux 5.8 and later have more. */
const CAPABILITIES: ReadonlySet<string> = new Set(
  [
    ...["CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"],
    ...["SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW"],
    ...["IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE"],
    ...["SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME"],
    ...["SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"],
    ...["MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ"],
  ].map((name) => `CAP_${name}`),
);
const CAPABILITY_SETS = ["bounding", "effective", "inheritable", "permitted", "ambient"];

const RLIMITS: ReadonlySet<string> = new Set(
  [
    ...[
      "CPU",
      "FSIZE",
      "DATA",
      "STACK",
      "CORE",
      "RSS",
      "NPROC",
      "NOFILE",
      "MEMLOCK",
      "AS",
      "LOCKS",
    ],
    ...["SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"],
  ].map((name) => `RLIMIT_${name}`),
);
/** No limit, in a number that Quark can read: it takes no negative one. */
const UNLIMITED = 9_223_372_036_854_774_784;

/** The annotations by which Quark knows what a container is. */
export function typeAnnotations(type: "sandbox" | "container", sandbox: string): JsonObject {
  return { [TYPE_ANNOTATION]: type, [SANDBOX_ANNOTATION]: sandbox };
}

/** A container's configuration for Quark. */
export interface QuarkContainerConfig {
  /** The config.json. */
  readonly config: JsonObject;
  /** Where Quark mounts file systems of its own: these directories have to be there. */
  readonly mountPoints: readonly string[];
}

/**
 * Makes the configuration of a container: from its bundle's config.json, or from the specification
 * alone where it has no bundle.
 *
 * @param spec The container.
 * @param sandbox What Quark calls its sandbox.
 * @throws {SandboxError} `InvalidArgument` for a document that cannot be read;
 *   `FailedPrecondition` for what Quark cannot give, with what to do.
 */
export async function containerConfig(
  spec: ContainerSpec,
  sandbox: string,
): Promise<QuarkContainerConfig> {
  const document = await readConfig(spec);
  try {
    refuseImpossible(document);
    return convert(document, spec, sandbox);
  } catch (error) {
    const { code, message } = SandboxError.from(error);
    const name = `cannot run container "${spec.id}" in Quark`;
    throw new SandboxError(code, `${name}: ${message}`, { cause: error });
  }
}

/**
 * The `process` of an exec, in words that Quark can read.
 *
 * @param spec The process.
 * @param terminal Whether it gets a terminal.
 */
export function quarkExecProcess(spec: ProcessSpec, terminal: boolean): JsonObject {
  return quarkProcess(execProcess(spec, terminal), terminal);
}

/** What Quark would give wrongly without a word. */
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
}

function convert(
  document: JsonObject,
  spec: ContainerSpec,
  sandbox: string,
): QuarkContainerConfig {
  const linux = objectOf(document, "linux");
  const mounts = objectsOf(document, "mounts").filter(isOwn).map((mount) =>
    only(mount, ["destination", "type", "source", "options"])
  );
  const hostname = stringOf(document, "hostname");
  const config = {
    ociVersion: stringOf(document, "ociVersion") || "1.0.2",
    process: quarkProcess(withoutHost(objectOf(document, "process")), spec.stdio.terminal),
    root: { path: "rootfs", readonly: spec.readonlyRootfs },
    ...(hostname === "" ? {} : { hostname }),
    mounts,
    annotations: { ...spec.annotations, ...typeAnnotations("container", sandbox) },
    linux: {
      ...only(linux, LINUX_MEMBERS),
      namespaces: objectsOf(linux, "namespaces")
        .filter((namespace) => NAMESPACES.has(stringOf(namespace, "type")))
        .map((namespace) => only(namespace, ["type", "path"])),
      resources: quarkResources(objectOf(linux, "resources")),
    },
  };
  const mountPoints = mounts.filter((mount) => stringOf(mount, "type") !== "cgroup")
    .map((mount) => stringOf(mount, "destination"));
  return { config, mountPoints };
}

/** Whether Quark makes a mount by itself. Bind mounts are made for it; others it has not. */
function isOwn(mount: JsonObject): boolean {
  const options = stringsOf(mount, "options");
  return !options.includes("bind") && !options.includes("rbind") &&
    OWN_TYPES.has(stringOf(mount, "type"));
}

function quarkProcess(process: JsonObject, terminal: boolean): JsonObject {
  const capabilities = objectOf(process, "capabilities");
  return {
    ...only(process, PROCESS_MEMBERS),
    terminal,
    user: only(objectOf(process, "user"), ["uid", "gid", "additionalGids", "username"]),
    capabilities: Object.fromEntries(
      CAPABILITY_SETS.map((set) => [
        set,
        stringsOf(capabilities, set).filter((name) => CAPABILITIES.has(name)),
      ]),
    ),
    rlimits: objectsOf(process, "rlimits")
      .filter((limit) => RLIMITS.has(stringOf(limit, "type")))
      .map((limit) => ({
        type: stringOf(limit, "type"),
        soft: limitOf(limit, "soft"),
        hard: limitOf(limit, "hard"),
      })),
  };
}

function limitOf(limit: JsonObject, name: string): number {
  const value = numberOf(limit, name) ?? 0;
  return value < 0 ? UNLIMITED : value;
}

/**
 * Limits in words that Quark can read.
 *
 * @param resources OCI's `linux.resources`.
 */
function quarkResources(resources: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(RESOURCES).flatMap(([name, members]) => {
      const kept = only(objectOf(resources, name), members);
      return Object.keys(kept).length === 0 ? [] : [[name, kept] as const];
    }),
  );
}
