/**
 * How a container is made without crun: its configuration, as crun would get it, turned into
 * numbers and a list of operations that the native `create` carries out. That knows what containerd
 * gives a plain container; whoever asks for something rare (a terminal, a system call filter, a
 * mount option that is not known here) gets undefined, and crun.
 *
 * @module
 */

import type { Json, JsonObject } from "../protocol/messages.ts";
import { type EnterPlan, planEnter } from "./enter.ts";
import { isObject, listAt, objectAt, textAt } from "./json_values.ts";
import {
  MS_BIND,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_NOSYMFOLLOW,
  MS_RDONLY,
  MS_REC,
  MS_RELATIME,
  MS_STRICTATIME,
  MS_SYNCHRONOUS,
  S_IFBLK,
  S_IFCHR,
  S_IFIFO,
} from "./linux.ts";

/** How a container is made. */
export interface CreationPlan {
  /** Its first process. */
  readonly process: EnterPlan;
  /** The directory of its root. */
  readonly root: string;
  /** 1 where it cannot write to its root, else 0. */
  readonly readonly: number;
  /** Target, source, type and options of each operation, one after the other. */
  readonly texts: readonly string[];
  /** Kind and five more numbers of each operation, see `native/create.c`. */
  readonly numbers: readonly number[];
  /** Which devices it may use, OCI's `linux.resources.devices`; empty where nothing is said. */
  readonly devices: readonly Json[];
  /** Its limits, OCI's `linux.resources`. */
  readonly resources: JsonObject;
}

/** Kinds of operations; the same numbers are in `native/create.c`. */
const KIND = { mount: 0, bind: 1, device: 2, link: 3, directory: 4, mask: 5, readonly: 6 } as const;

/** An empty directory of the guest, for what covers directories. */
export const COVER = "/run/cover";

const LINUX_KEYS = new Set([
  "namespaces",
  "cgroupsPath",
  "devices",
  "resources",
  "maskedPaths",
  "readonlyPaths",
]);

/** What `limitWrites` understands, and the rules for devices. */
const RESOURCE_KEYS = new Set(["cpu", "memory", "pids", "hugepageLimits", "unified", "devices"]);
const CPU_KEYS = new Set(["shares", "quota", "period", "burst", "idle"]);
const MEMORY_KEYS = new Set(["limit", "swap", "reservation"]);

/** File systems by their names in OCI's configuration, as the kernel calls them. */
const FILE_SYSTEMS: Readonly<Record<string, string>> = {
  proc: "proc",
  sysfs: "sysfs",
  tmpfs: "tmpfs",
  devpts: "devpts",
  mqueue: "mqueue",
  cgroup: "cgroup2",
  cgroup2: "cgroup2",
};

/** Mount options that are flags. What says what holds anyway is none. */
const FLAGS: Readonly<Record<string, number>> = {
  bind: MS_BIND,
  rbind: MS_BIND | MS_REC,
  defaults: 0,
  dev: 0,
  exec: 0,
  noatime: MS_NOATIME,
  nodev: MS_NODEV,
  nodiratime: MS_NODIRATIME,
  noexec: MS_NOEXEC,
  nosuid: MS_NOSUID,
  private: 0,
  relatime: MS_RELATIME,
  ro: MS_RDONLY,
  rprivate: 0,
  rw: 0,
  strictatime: MS_STRICTATIME,
  suid: 0,
  sync: MS_SYNCHRONOUS,
};

/** Mount options that are the file system's. */
const DATA_OPTION = /^(newinstance|(mode|size|uid|gid|ptmxmode|nr_inodes|nr_blocks)=[\w.%]+)$/;

/** Flags of binds; the numbers of mount_setattr(2) are the same for them. */
const BIND_FLAGS = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
/** What binds keep from what they bind. */
const BIND_IGNORED = MS_BIND | MS_REC | MS_RELATIME;

/** Nodes that every container has: name, major, minor. */
const DEVICES: readonly (readonly [string, number, number])[] = [
  ["null", 1, 3],
  ["zero", 1, 5],
  ["full", 1, 7],
  ["tty", 5, 0],
  ["random", 1, 8],
  ["urandom", 1, 9],
];

/** Links that every container has. */
const LINKS: readonly (readonly [string, string])[] = [
  ["/dev/fd", "/proc/self/fd"],
  ["/dev/stdin", "/proc/self/fd/0"],
  ["/dev/stdout", "/proc/self/fd/1"],
  ["/dev/stderr", "/proc/self/fd/2"],
  ["/dev/core", "/proc/kcore"],
  ["/dev/ptmx", "pts/ptmx"],
];

const NODE_TYPES: Readonly<Record<string, number>> = {
  c: S_IFCHR,
  u: S_IFCHR,
  b: S_IFBLK,
  p: S_IFIFO,
};

/** Collects operations. */
class Operations {
  readonly texts: string[] = [];
  readonly numbers: number[] = [];

  add(
    kind: number,
    target: string,
    texts: readonly [string?, string?, string?] = [],
    numbers: readonly [number?, number?, number?, number?, number?] = [],
  ): void {
    const [source = "", type = "", data = ""] = texts;
    const [a = 0, b = 0, c = 0, d = 0, e = 0] = numbers;
    this.texts.push(target, source, type, data);
    this.numbers.push(kind, a, b, c, d, e);
  }
}

/**
 * How to make a container.
 *
 * @param document Its configuration, as crun would get it.
 * @returns undefined where that is for crun.
 */
export function planCreation(document: JsonObject): CreationPlan | undefined {
  const linux = objectAt(document, "linux");
  const resources = objectAt(linux, "resources");
  if (!hasOnly(linux, LINUX_KEYS) || !hasOwnNamespaces(linux) || !isPlain(resources)) {
    return undefined;
  }
  const process = planEnter(objectAt(document, "process"), { program: null, flags: 0 });
  const root = objectAt(document, "root");
  const rootPath = textAt(root, "path");
  const operations = new Operations();
  if (
    process === undefined || rootPath === undefined ||
    !addMounts(operations, listAt(document, "mounts")) ||
    !addDevices(operations, listAt(linux, "devices"))
  ) return undefined;
  for (const [target, source] of LINKS) operations.add(KIND.link, target, [source]);
  if (!isClean(process.cwd)) return undefined;
  operations.add(KIND.directory, process.cwd);
  for (const path of listAt(linux, "maskedPaths")) {
    if (typeof path !== "string" || !isClean(path)) return undefined;
    operations.add(KIND.mask, path, [COVER]);
  }
  for (const path of listAt(linux, "readonlyPaths")) {
    if (typeof path !== "string" || !isClean(path)) return undefined;
    operations.add(KIND.readonly, path);
  }
  return {
    process,
    root: rootPath,
    readonly: root["readonly"] === true ? 1 : 0,
    texts: operations.texts,
    numbers: operations.numbers,
    devices: listAt(resources, "devices"),
    resources,
  };
}

/**
 * What an operation is about, for messages.
 *
 * @param plan The plan.
 * @param index Which one.
 */
export function operationTarget(plan: Pick<CreationPlan, "texts">, index: number): string {
  return plan.texts[index * 4] ?? "";
}

/** Name spaces of its own for mounts, cgroups and process ids. */
function hasOwnNamespaces(linux: JsonObject): boolean {
  const list = listAt(linux, "namespaces").filter(isObject);
  const types = list.map((each) => String(each["type"])).sort().join(" ");
  return types === "cgroup mount pid" && list.every((each) => each["path"] === undefined);
}

function isPlain(resources: JsonObject): boolean {
  return hasOnly(resources, RESOURCE_KEYS) && hasOnly(objectAt(resources, "cpu"), CPU_KEYS) &&
    hasOnly(objectAt(resources, "memory"), MEMORY_KEYS);
}

function hasOnly(object: JsonObject, keys: ReadonlySet<string>): boolean {
  return Object.keys(object).every((key) => keys.has(key));
}

/** Absolute, and without a way up. */
function isClean(path: string): boolean {
  return path.startsWith("/") && !/(^|\/)\.\.?(\/|$)/.test(path);
}

/** Adds what is mounted, in its order; false where something is not understood. */
function addMounts(operations: Operations, mounts: readonly Json[]): boolean {
  let hasDev = false;
  for (const mount of mounts) {
    if (!isObject(mount)) return false;
    const target = textAt(mount, "destination");
    const options = readOptions(listAt(mount, "options"));
    if (target === undefined || !isClean(target) || options === undefined) return false;
    const { flags, data } = options;
    const type = textAt(mount, "type") ?? "";
    const source = textAt(mount, "source") ?? type;
    if (type === "bind" || (flags & MS_BIND) !== 0) {
      if (!source.startsWith("/") || data !== "") return false;
      if ((flags & ~(BIND_FLAGS | BIND_IGNORED)) !== 0) return false;
      // crun makes the device nodes there, whatever it is.
      if (target === "/dev") return false;
      const recursive = (flags & MS_REC) !== 0 ? 1 : 0;
      const set = flags & BIND_FLAGS;
      // What can be written to has the flags that are said; others keep those of their source too.
      const clear = listAt(mount, "options").includes("rw") ? BIND_FLAGS & ~set : 0;
      operations.add(KIND.bind, target, [source], [set, clear, recursive]);
      continue;
    }
    const fileSystem = FILE_SYSTEMS[type];
    if (fileSystem === undefined || Object.keys(mount).includes("uidMappings")) return false;
    if (fileSystem === "tmpfs") {
      // What is mounted below would have nowhere to be made.
      if ((flags & MS_RDONLY) !== 0) return false;
      if (target === "/dev") hasDev = true;
    }
    const isCgroup = fileSystem === "cgroup2";
    operations.add(
      KIND.mount,
      target,
      [isCgroup ? fileSystem : source, fileSystem, data],
      [isCgroup ? flags | MS_NOSYMFOLLOW : flags],
    );
  }
  return hasDev;
}

function readOptions(
  options: readonly Json[],
): { readonly flags: number; readonly data: string } | undefined {
  let flags = 0;
  const data: string[] = [];
  for (const option of options) {
    const text = String(option);
    const flag = Object.hasOwn(FLAGS, text) ? FLAGS[text] : undefined;
    if (flag !== undefined) flags |= flag;
    else if (DATA_OPTION.test(text)) data.push(text);
    else return undefined;
  }
  return { flags, data: data.join(",") };
}

/** Adds the device nodes; false where one is not understood. */
function addDevices(operations: Operations, devices: readonly Json[]): boolean {
  for (const device of devices) {
    if (!isObject(device)) return false;
    const path = textAt(device, "path") ?? "";
    const type = NODE_TYPES[textAt(device, "type") ?? ""];
    const mode = device["fileMode"] ?? 0o666;
    if (!/^\/dev\/[\w.-]+$/.test(path) || !isClean(path)) return false;
    if (type === undefined || typeof mode !== "number") return false;
    operations.add(KIND.device, path, [], [
      type | (mode & 0o7777),
      Number(device["major"] ?? 0),
      Number(device["minor"] ?? 0),
      Number(device["uid"] ?? 0),
      Number(device["gid"] ?? 0),
    ]);
  }
  for (const [name, major, minor] of DEVICES) {
    operations.add(KIND.device, `/dev/${name}`, [], [S_IFCHR | 0o666, major, minor]);
  }
  return true;
}
