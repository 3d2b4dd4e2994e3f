/**
 * The OCI configuration that a container is made by, here or by crun: the host's, with what is the guest's own put in and what can
 * only hold on the host taken out. The machine is the pod: its network, IPC and UTS name spaces are
 * those of the guest, so containers get name spaces of their own for mounts, cgroups and, where
 * they are not shared, process ids.
 *
 * Source: OCI runtime specification 1.2 (config.md, config-linux.md) and crun's documentation.
 *
 * @module
 */

import type { Json, JsonObject } from "../protocol/messages.ts";
import { isObject, listAt, objectAt, textAt, without } from "./json_values.ts";

/** A mount whose source is in the guest. */
export interface BindMount {
  /** Where the container sees it: absolute. */
  readonly destination: string;
  /** What is bound there: absolute, in the guest. */
  readonly source: string;
  /** Whether it cannot be written to. */
  readonly readonly: boolean;
  /** Further mount options, such as `nosuid`. */
  readonly options?: readonly string[];
}

/** What is known of the guest when a configuration is made. */
export interface GuestFacts {
  /** The container's root, an absolute path in the guest. */
  readonly rootfs: string;
  /** Mounts beside the configuration's, in the order in which they are made. */
  readonly mounts: readonly BindMount[];
  /** The path of its cgroup below the hierarchy's root. */
  readonly cgroupsPath: string;
  /** The pid name space to join; undefined for one of its own. */
  readonly pidNamespace: string | undefined;
  /** Size of its terminal; undefined for none. */
  readonly terminal: { readonly columns: number; readonly rows: number } | undefined;
  /** The numbers of a device node of the guest; undefined where it has none at that path. */
  device(path: string): { readonly major: number; readonly minor: number } | undefined;
  /** Whether the kernel limits huge pages of this size, such as `2MB`. */
  hasHugePages(size: string): boolean;
}

/** Open files of a process whose configuration says nothing: what systemd gives a service. */
const OPEN_FILES = { type: "RLIMIT_NOFILE", soft: 1024, hard: 524_288 };

/** Parts of `linux` that are the host's, or need a name space that a container here does not have. */
const HOST_LINUX = [
  "namespaces",
  "uidMappings",
  "gidMappings",
  "cgroupsPath",
  "intelRdt",
  "mountLabel",
  "netDevices",
  "sysctl",
  "devices",
  "resources",
  "timeOffsets",
  "memoryPolicy",
];

/** Parts of `linux.resources` that name the host's hardware or exist in cgroup v1 only. */
const HOST_RESOURCES = ["network", "rdma", "blockIO", "cpu", "memory", "hugepageLimits"];
const HOST_CPU = ["cpus", "mems", "realtimeRuntime", "realtimePeriod"];
const HOST_MEMORY = ["kernel", "kernelTCP", "swappiness", "disableOOMKiller", "useHierarchy"];

/**
 * The configuration for crun.
 *
 * @param config The host's.
 * @param guest What is the guest's.
 */
export function crunConfig(config: JsonObject, guest: GuestFacts): JsonObject {
  const linux = objectAt(config, "linux");
  return {
    ociVersion: textAt(config, "ociVersion") ?? "1.0.2",
    process: crunProcess(objectAt(config, "process"), guest.terminal),
    root: { path: guest.rootfs, readonly: objectAt(config, "root")["readonly"] === true },
    mounts: mergeMounts(listAt(config, "mounts"), guest.mounts),
    linux: {
      ...without(linux, HOST_LINUX),
      namespaces: namespaces(guest.pidNamespace),
      cgroupsPath: guest.cgroupsPath,
      devices: devices(listAt(linux, "devices"), guest),
      resources: resources(objectAt(linux, "resources"), guest),
    },
  };
}

/**
 * The `process` object for crun: the host's, without the labels of security modules that the guest
 * does not run.
 *
 * @param process OCI's `process`.
 * @param terminal Its size; undefined for none.
 */
export function crunProcess(
  process: JsonObject,
  terminal: GuestFacts["terminal"],
): JsonObject {
  const limits = listAt(process, "rlimits");
  const hasOpenFiles = limits.some((limit) => isObject(limit) && limit["type"] === OPEN_FILES.type);
  return {
    ...without(process, [
      "apparmorProfile",
      "selinuxLabel",
      "execCPUAffinity",
      "consoleSize",
      "terminal",
    ]),
    rlimits: hasOpenFiles ? limits : [...limits, OPEN_FILES],
    ...(terminal === undefined ? {} : {
      terminal: true,
      consoleSize: { width: terminal.columns, height: terminal.rows },
    }),
  };
}

/**
 * Kernel settings of the container. The guest's own name spaces are the pod's, so they are set for
 * the whole guest.
 *
 * @param config The host's configuration.
 */
export function containerSysctls(config: JsonObject): Record<string, string> {
  const wanted = objectAt(objectAt(config, "linux"), "sysctl");
  return Object.fromEntries(
    Object.entries(wanted).filter((entry): entry is [string, string] =>
      typeof entry[1] === "string"
    ),
  );
}

/**
 * Puts the guest's mounts among those of the configuration: one at the same place takes the other's
 * place, and what is higher up in the tree comes first, otherwise in the order they are given.
 *
 * @param fromConfig The configuration's `mounts`.
 * @param binds The guest's.
 */
export function mergeMounts(fromConfig: readonly Json[], binds: readonly BindMount[]): Json[] {
  const places = new Set(binds.map((bind) => cleanPath(bind.destination)));
  const kept = fromConfig.filter(isObject)
    .filter((mount) => !places.has(cleanPath(textAt(mount, "destination") ?? "")));
  const bound = binds.map((bind) => ({
    destination: bind.destination,
    type: "bind",
    source: bind.source,
    options: ["rbind", "rprivate", bind.readonly ? "ro" : "rw", ...bind.options ?? []],
  }));
  return [...kept, ...bound]
    .map((mount, order) => ({ mount, order, depth: depthOf(mount) }))
    .sort((a, b) => a.depth - b.depth || a.order - b.order)
    .map(({ mount }) => mount);
}

function depthOf(mount: JsonObject): number {
  return cleanPath(textAt(mount, "destination") ?? "").split("/").length;
}

/** A path without double and trailing slashes. */
function cleanPath(path: string): string {
  return `/${path.split("/").filter((part) => part !== "" && part !== ".").join("/")}`;
}

function namespaces(pidNamespace: string | undefined): Json[] {
  const pid = pidNamespace === undefined ? { type: "pid" } : { type: "pid", path: pidNamespace };
  return [{ type: "mount" }, { type: "cgroup" }, pid];
}

/** Device nodes that the guest has too, with the guest's numbers. */
function devices(wanted: readonly Json[], guest: GuestFacts): Json[] {
  return wanted.filter(isObject).flatMap((device) => {
    const path = textAt(device, "path");
    const numbers = path === undefined ? undefined : guest.device(path);
    return numbers === undefined ? [] : [{ ...device, ...numbers }];
  });
}

function resources(wanted: JsonObject, guest: GuestFacts): JsonObject {
  const hugePages = listAt(wanted, "hugepageLimits").filter((limit) =>
    isObject(limit) && guest.hasHugePages(textAt(limit, "pageSize") ?? "")
  );
  return {
    ...without(wanted, HOST_RESOURCES),
    cpu: without(objectAt(wanted, "cpu"), HOST_CPU),
    memory: without(objectAt(wanted, "memory"), HOST_MEMORY),
    ...(hugePages.length === 0 ? {} : { hugepageLimits: hugePages }),
  };
}
