/**
 * The parts of the OCI runtime specification that sandboxes use, decoded from JSON: the process, the
 * root, bind mounts, resources, the seccomp profile and annotations of a container. Everything else
 * in a config.json (namespaces, hooks) is about the host kernel and is left out.
 *
 * Source: opencontainers/runtime-spec config.md and config-linux.md.
 *
 * @module
 */

import { resolve } from "node:path";
import type {
  BindMountSpec,
  CapabilitySpec,
  ProcessSpec,
  ResourceSpec,
  RlimitSpec,
  SeccompSpec,
} from "../sandboxers/lifecycle/spec.ts";
import type { JsonField } from "./json_field.ts";
import { decodeSeccomp } from "./seccomp.ts";

/** What a config.json says about a container. */
export interface OciConfig {
  /** The init process. */
  readonly process: ProcessSpec;
  /** Absolute path of the root file system. */
  readonly rootPath: string;
  /** Whether the process may not write to its root file system. */
  readonly readonlyRootfs: boolean;
  /** Host directories and files in the container. */
  readonly mounts: readonly BindMountSpec[];
  /** Limits; what is missing is not limited. */
  readonly resources: ResourceSpec;
  /** System calls that its processes may make; missing for no such limit. */
  readonly seccomp?: SeccompSpec;
  /** Free text by name. */
  readonly annotations: Readonly<Record<string, string>>;
}

/**
 * File systems that a sandbox brings along where it has them: they are no part of the image and hold
 * nothing of the host's, so they are not handed on.
 */
const PSEUDO_FILE_SYSTEMS: ReadonlySet<string> = new Set([
  "proc",
  "sysfs",
  "tmpfs",
  "devpts",
  "mqueue",
  "cgroup",
  "cgroup2",
]);

/**
 * Decodes a config.json.
 *
 * @param config The document.
 * @param bundle The bundle's absolute path; relative paths in the document start there.
 * @throws SandboxError `InvalidArgument` naming the field, what was found and what is expected.
 */
export function decodeConfig(config: JsonField, bundle: string): OciConfig {
  const root = config.optional("root");
  const linux = config.optional("linux");
  const mounts = config.optional("mounts")?.items() ?? [];
  const seccomp = linux?.optional("seccomp");
  return {
    process: decodeProcess(config.member("process")),
    rootPath: resolve(bundle, root?.optional("path")?.string() ?? "rootfs"),
    readonlyRootfs: root?.optional("readonly")?.boolean() ?? false,
    mounts: mounts.flatMap((mount) => decodeMount(mount, bundle)),
    resources: decodeResources(linux?.optional("resources")),
    ...(seccomp === undefined ? {} : { seccomp: decodeSeccomp(seccomp) }),
    annotations: config.optional("annotations")?.stringMap() ?? {},
  };
}

/**
 * Decodes the `process` of a config.json.
 *
 * @param process The object.
 * @throws SandboxError `InvalidArgument` naming the field, what was found and what is expected.
 */
export function decodeProcess(process: JsonField): ProcessSpec {
  const args = process.member("args");
  if (args.items().length === 0) throw args.misfit("a command, at least one string");
  const user = process.optional("user");
  const gids = user?.optional("additionalGids")?.items() ?? [];
  const descriptorsMax = decodeOpenFiles(process.optional("rlimits"));
  return {
    args: args.strings(),
    env: (process.optional("env")?.items() ?? []).map(decodeVariable),
    cwd: process.optional("cwd")?.absolutePath() ?? "/",
    user: {
      uid: user?.optional("uid")?.uint32() ?? 0,
      gid: user?.optional("gid")?.uint32() ?? 0,
      additionalGids: gids.map((gid) => gid.uint32()),
    },
    ...(descriptorsMax === undefined ? {} : { descriptorsMax }),
  };
}

/**
 * Decodes the process of an exec, with what it may do and use. Of a container's own process that is
 * not kept: who needs it finds it in the bundle.
 *
 * @param process The object.
 * @throws SandboxError `InvalidArgument` naming the field, what was found and what is expected.
 */
export function decodeExecProcess(process: JsonField): ProcessSpec {
  return { ...decodeProcess(process), ...decodeRights(process) };
}

/** What a process may do and use beyond its user, as far as it is said. */
function decodeRights(
  process: JsonField,
): Pick<
  ProcessSpec,
  "capabilities" | "noNewPrivileges" | "rlimits" | "umask" | "oomScoreAdjust"
> {
  const capabilities = process.optional("capabilities");
  const noNewPrivileges = process.optional("noNewPrivileges")?.boolean();
  const rlimits = process.optional("rlimits")?.items().map(decodeRlimit);
  const umask = process.optional("user")?.optional("umask")?.uint32();
  const oomScoreAdjust = process.optional("oomScoreAdj")?.integer();
  return {
    ...(capabilities === undefined ? {} : { capabilities: decodeCapabilities(capabilities) }),
    ...(noNewPrivileges === undefined ? {} : { noNewPrivileges }),
    ...(rlimits === undefined ? {} : { rlimits }),
    ...(umask === undefined ? {} : { umask }),
    ...(oomScoreAdjust === undefined ? {} : { oomScoreAdjust }),
  };
}

function decodeCapabilities(capabilities: JsonField): CapabilitySpec {
  const set = (name: string) => capabilities.optional(name)?.strings() ?? [];
  return {
    bounding: set("bounding"),
    effective: set("effective"),
    inheritable: set("inheritable"),
    permitted: set("permitted"),
    ambient: set("ambient"),
  };
}

function decodeRlimit(limit: JsonField): RlimitSpec {
  // No limit is written as 2^64 - 1, which a number cannot hold; nobody means another one so large.
  const value = (name: string) => {
    const found = limit.optional(name)?.integer() ?? 0;
    return Number.isSafeInteger(found) ? found : -1;
  };
  return { type: limit.member("type").string(), soft: value("soft"), hard: value("hard") };
}

/** The soft limit of open files in a list of limits; others are about processes of the host. */
function decodeOpenFiles(rlimits: JsonField | undefined): number | undefined {
  const limits = rlimits?.items() ?? [];
  const field = limits.find((item) => item.member("type").string() === "RLIMIT_NOFILE");
  const soft = field?.member("soft");
  if (soft === undefined) return undefined;
  const value = soft.integer();
  if (value < 0) throw soft.misfit("an integer, at least 0");
  return Math.min(value, Number.MAX_SAFE_INTEGER);
}

function decodeVariable(variable: JsonField): string {
  const text = variable.string();
  if (text.indexOf("=") < 1) throw variable.misfit("a variable as KEY=value");
  return text;
}

/** A bind mount; nothing for the file systems that sandboxes bring along themselves. */
function decodeMount(mount: JsonField, bundle: string): BindMountSpec[] {
  const destination = mount.member("destination").absolutePath();
  const typeField = mount.optional("type");
  const type = typeField?.string() ?? "";
  const options = mount.optional("options")?.strings() ?? [];
  if (type === "bind" || options.includes("bind") || options.includes("rbind")) {
    const source = resolve(bundle, mount.member("source").string());
    return [{ source, destination, readonly: isReadonly(options) }];
  }
  if (PSEUDO_FILE_SYSTEMS.has(type)) return [];
  throw (typeField ?? mount).misfit(
    `a bind mount (type or option "bind") or one of ${[...PSEUDO_FILE_SYSTEMS].join(", ")}`,
  );
}

/** As in mount(8), the last of `ro` and `rw` counts. */
function isReadonly(options: readonly string[]): boolean {
  return options.lastIndexOf("ro") > options.lastIndexOf("rw");
}

/**
 * Decodes `linux.resources`. Zero and negative limits, and those beyond what a number holds exactly,
 * mean no limit, as they do to runc.
 *
 * @param resources The object; undefined for no limits.
 * @throws SandboxError `InvalidArgument` naming the field, what was found and what is expected.
 */
export function decodeResources(resources: JsonField | undefined): ResourceSpec {
  const memory = resources?.optional("memory");
  const cpu = resources?.optional("cpu");
  const pids = resources?.optional("pids");
  const cpus = cpu?.optional("cpus")?.string() ?? "";
  return {
    ...limit("memoryBytes", memory?.optional("limit")),
    ...limit("cpuQuotaUs", cpu?.optional("quota")),
    ...limit("cpuPeriodUs", cpu?.optional("period")),
    ...limit("cpuShares", cpu?.optional("shares")),
    ...limit("pids", pids?.optional("limit")),
    ...(cpus === "" ? {} : { cpusetCpus: cpus }),
  };
}

function limit<K extends keyof ResourceSpec>(
  name: K,
  field: JsonField | undefined,
): { readonly [P in K]?: number } | Record<never, never> {
  const value = field?.integer() ?? 0;
  return value > 0 && Number.isSafeInteger(value) ? { [name]: value } : {};
}
