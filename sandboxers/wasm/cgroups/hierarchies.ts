/**
 * Which cgroup hierarchies this host has: version 1 (each controller mounted by itself or with
 * others), version 2, or both, as the mount table says.
 *
 * @module
 */

import type { CgroupFiles } from "./files.ts";

/** The controllers that are used here. Memory is not among them: it is not kept per thread. */
export type Controller = "cpu" | "cpuacct" | "cpuset" | "freezer" | "pids";

const CONTROLLERS: ReadonlySet<string> = new Set<Controller>([
  "cpu",
  "cpuacct",
  "cpuset",
  "freezer",
  "pids",
]);

/** A hierarchy. */
export interface Hierarchy {
  /** The cgroup version. */
  readonly version: 1 | 2;
  /** Where it is mounted. */
  readonly root: string;
  /** The cgroup of this process below the mount point, such as `/system.slice/x`; "" for its root. */
  readonly own: string;
  /** What can be controlled in it, of what is used here. In version 2 freezing always can. */
  readonly controllers: ReadonlySet<Controller>;
}

/**
 * Finds the hierarchies of this process.
 *
 * @returns None where cgroups are not mounted.
 */
export function findHierarchies(files: CgroupFiles): readonly Hierarchy[] {
  const mounts = parseMounts(files.read("/proc/self/mountinfo") ?? "");
  const groups = parseGroups(files.read("/proc/self/cgroup") ?? "");
  const hierarchies: Hierarchy[] = [];
  for (const { version, root, below, options } of mounts) {
    const own = groups.find((group) =>
      version === 2 ? group.names === "" : group.names.split(",").some((n) => options.includes(n))
    );
    if (own === undefined) continue;
    const path = ownPath(own.path, below);
    const names = version === 1
      ? options
      : ["freezer", ...(files.read(`${root}${path}/cgroup.controllers`) ?? "").trim().split(" ")];
    const controllers = new Set(names.filter(isController));
    // A hierarchy may be mounted more than once; the first place does.
    const known = hierarchies.some((other) =>
      other.version === version && (version === 2 || sameSet(other.controllers, controllers))
    );
    if (known || controllers.size === 0) continue;
    hierarchies.push({ version, root, own: path, controllers });
  }
  return hierarchies;
}

/**
 * The hierarchy in which something is controlled. A controller is in one hierarchy only; freezing is
 * possible in both versions, and then version 2 does it: there a frozen thread dies with its process.
 */
export function hierarchyOf(
  hierarchies: readonly Hierarchy[],
  controller: Controller,
): Hierarchy | undefined {
  const able = hierarchies.filter(({ controllers }) => controllers.has(controller));
  return able.find(({ version }) => version === 2) ?? able[0];
}

interface CgroupMount {
  readonly version: 1 | 2;
  /** Mount point. */
  readonly root: string;
  /** The cgroup that is mounted there: `/`, or another where a container manager bound one. */
  readonly below: string;
  readonly options: readonly string[];
}

/** proc_pid_mountinfo(5): `36 35 98:0 /root /mount/point opts - type source super-options`. */
function parseMounts(text: string): CgroupMount[] {
  return text.split("\n").flatMap((line): CgroupMount[] => {
    const [left = "", right = ""] = line.split(" - ");
    const [, , , below = "", root = ""] = left.split(" ");
    const [type, , options = ""] = right.split(" ");
    if (type !== "cgroup" && type !== "cgroup2") return [];
    const version = type === "cgroup" ? 1 : 2;
    return [{ version, root: unescape(root), below: unescape(below), options: options.split(",") }];
  });
}

/** cgroups(7): `4:cpu,cpuacct:/path`, in version 2 `0::/path`. */
function parseGroups(text: string): { readonly names: string; readonly path: string }[] {
  return text.split("\n").flatMap((line) => {
    const [, names, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    return names === undefined || path === undefined ? [] : [{ names, path }];
  });
}

/** A cgroup's path below a mount point that shows only what is below another cgroup. */
function ownPath(path: string, below: string): string {
  const inside = below !== "/" && (path === below || path.startsWith(`${below}/`));
  const relative = inside ? path.slice(below.length) : path;
  return relative === "/" || relative.includes("/..") ? "" : relative;
}

/** The kernel writes space, tab, newline and backslash as octal. */
function unescape(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}

function isController(name: string): name is Controller {
  return CONTROLLERS.has(name);
}

function sameSet<T>(a: ReadonlySet<T>, b: ReadonlySet<T>): boolean {
  return a.size === b.size && [...a].every((value) => b.has(value));
}
