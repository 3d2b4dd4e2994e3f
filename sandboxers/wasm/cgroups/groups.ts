/**
 * Making, limiting, entering and removing one cgroup in one hierarchy, for threads: in version 2 all
 * that is made here is of type `threaded`, below the cgroup of this process. A thread may be nowhere
 * else there, as the threads of one process share their memory's cgroup.
 *
 * Source: Linux Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst ("Threads").
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { ERRNO, errnoName, systemError } from "../native/errno.ts";
import type { CgroupFiles } from "./files.ts";
import type { Controller, Hierarchy } from "./hierarchies.ts";
import { cpuList, type Setting } from "./settings.ts";

/** How often a removal is tried while threads are ending, and the first pause, doubled each time. */
const REMOVALS_MAX = 10;
const REMOVAL_INTERVAL_MS = 1;
/** How often directories are made again that another process has just removed as empty. */
const MAKES_MAX = 8;

const EEXIST = 17;
const ENOTEMPTY = 39;

/** A cgroup in one hierarchy. */
export interface Group {
  /** Where. */
  readonly hierarchy: Hierarchy;
  /** Its path below the mount point, such as `/quasaur/pod`. */
  readonly path: string;
}

/** The directory of a cgroup. */
export function directoryOf({ hierarchy, path }: Group): string {
  return `${hierarchy.root}${path}`;
}

/** The cgroup above. */
export function parentOf({ hierarchy, path }: Group): Group {
  return { hierarchy, path: path.slice(0, path.lastIndexOf("/")) };
}

/** Whether a cgroup is there, for threads to enter. */
export function exists(files: CgroupFiles, group: Group): boolean {
  const fd = files.open(`${directoryOf(group)}/${membersFile(group)}`);
  if (fd >= 0) files.close(fd);
  return fd >= 0;
}

/** The file that lists the threads of a cgroup, and takes more of them. */
export function membersFile({ hierarchy }: Group): string {
  return hierarchy.version === 1 ? "tasks" : "cgroup.threads";
}

/**
 * Opens a cgroup for threads to enter it: one that writes "0" to the descriptor is in it.
 *
 * @throws {SandboxError} When it cannot be opened.
 */
export function openMembers(files: CgroupFiles, group: Group): number {
  const fd = files.open(`${directoryOf(group)}/${membersFile(group)}`);
  if (fd < 0) throw systemError(`cannot enter the cgroup "${directoryOf(group)}"`, -fd);
  return fd;
}

/**
 * The name of a cgroup for an id. The kernel's own files in the same directory have a dot in their
 * name, but for three; an id must not be taken for one of them.
 */
export function groupName(id: string): string {
  const taken = ["tasks", "notify_on_release", "release_agent"].includes(id);
  return taken || id.includes(".") ? `id.${id}` : id;
}

/**
 * Makes a cgroup with those above it that are missing.
 *
 * @param controllers What is to be controlled in it, of what its hierarchy can.
 * @returns The cgroups that were made, the deepest last; none where it was there.
 * @throws {SandboxError} When it cannot be made; then what was made is gone again.
 */
export function makeGroup(
  files: CgroupFiles,
  group: Group,
  controllers: readonly Controller[],
): readonly Group[] {
  if (makeLeaf(files, group, controllers)) return [group];
  for (let i = 0;; i++) {
    const made: Group[] = [];
    try {
      makeLevels(files, group, controllers, made);
      return made;
    } catch (error) {
      for (const level of made.reverse()) files.removeDirectory(directoryOf(level));
      if (!(error instanceof LevelGone) || i >= MAKES_MAX) throw error;
    }
  }
}

/** A level that was there is not any more: who made it has removed it, as it was empty. */
class LevelGone extends SandboxError {
  constructor(path: string) {
    super("Aborted", `cannot make the cgroup "${path}": one above it was removed meanwhile`);
  }
}

/**
 * Makes a cgroup where all above it is there and as it must be, which is so for all but the first.
 *
 * @returns Whether it was made; else nothing has changed.
 */
function makeLeaf(files: CgroupFiles, group: Group, controllers: readonly Controller[]): boolean {
  if (files.makeDirectory(directoryOf(group)) !== 0) return false;
  const { version, controllers: available } = group.hierarchy;
  try {
    if (version === 2) prepareV2(files, parentOf(group), group, controllers);
    else if (available.has("cpuset")) inheritCpuset(files, parentOf(group), group);
    return true;
  } catch {
    files.removeDirectory(directoryOf(group));
    return false;
  }
}

function makeLevels(
  files: CgroupFiles,
  { hierarchy, path }: Group,
  controllers: readonly Controller[],
  made: Group[],
): void {
  // In version 2 the cgroup of this process is there and stays what it is.
  const start = hierarchy.version === 2 ? hierarchy.own : "";
  const names = path.slice(start.length).split("/").filter((name) => name !== "");
  let parent: Group = { hierarchy, path: start };
  for (const name of names) {
    const level: Group = { hierarchy, path: `${parent.path}/${name}` };
    const errno = files.makeDirectory(directoryOf(level));
    if (errno === ERRNO.ENOENT) throw new LevelGone(level.path);
    if (errno !== 0 && errno !== EEXIST) {
      throw systemError(`cannot make the cgroup "${directoryOf(level)}"`, errno);
    }
    if (errno === 0) made.push(level);
    if (hierarchy.version === 2) prepareV2(files, parent, level, controllers);
    else if (hierarchy.controllers.has("cpuset")) inheritCpuset(files, parent, level);
    parent = level;
  }
}

/** Has a cgroup of version 2 hold threads, and controls what it is to control. */
function prepareV2(
  files: CgroupFiles,
  parent: Group,
  level: Group,
  controllers: readonly Controller[],
): void {
  const typeFile = `${directoryOf(level)}/cgroup.type`;
  if (files.read(typeFile)?.trim() !== "threaded") {
    const errno = files.write(typeFile, "threaded");
    if (errno === ERRNO.ENOENT) throw new LevelGone(level.path);
    if (errno !== 0) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot make the cgroup "${directoryOf(level)}" threaded: ${
          errnoName(errno)
        }: the cgroup ` +
          `of this process, "${level.hierarchy.own || "/"}", must be its own: with systemd, set ` +
          "Delegate=yes for the service",
      );
    }
  }
  const control = `${directoryOf(parent)}/cgroup.subtree_control`;
  const enabled = (files.read(control) ?? "").trim().split(" ");
  // Freezing needs no controller in version 2; CPU time is counted in every cgroup.
  const wanted = controllers.filter((name) =>
    name === "cpu" || name === "cpuset" || name === "pids"
  );
  const missing = wanted.filter((name) => !enabled.includes(name));
  if (missing.length === 0) return;
  const errno = files.write(control, missing.map((name) => `+${name}`).join(" "));
  if (errno === 0) return;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot control ${missing.join(", ")} below the cgroup "${directoryOf(parent)}": ` +
      errnoName(errno),
  );
}

/** A cpuset of version 1 starts empty and takes no thread until it has CPUs and memory nodes. */
function inheritCpuset(files: CgroupFiles, parent: Group, level: Group): void {
  for (const file of ["cpuset.cpus", "cpuset.mems"]) {
    const own = files.read(`${directoryOf(level)}/${file}`)?.trim();
    if (own !== "") continue;
    const inherited = files.read(`${directoryOf(parent)}/${file}`)?.trim() ?? "";
    const errno = files.write(`${directoryOf(level)}/${file}`, inherited);
    if (errno !== 0) throw systemError(`cannot set ${file} of "${directoryOf(level)}"`, errno);
  }
}

/**
 * Sets the limits of a cgroup.
 *
 * @param wanted Each of a controller that the cgroup has.
 * @param what Whose limits, for messages.
 * @throws {SandboxError} `InvalidArgument` where the kernel refuses a value.
 */
export function applySettings(
  files: CgroupFiles,
  group: Group,
  wanted: readonly Setting[],
  what: string,
): void {
  for (const setting of wanted) {
    const value = setting.file === "cpuset.cpus" && group.hierarchy.version === 1
      ? cpusOrInherited(files, group, setting.value)
      : setting.value;
    // An empty write(2) writes nothing; a line with nothing in it is what empties a list.
    const errno = files.write(`${directoryOf(group)}/${setting.file}`, `${value}\n`);
    if (errno !== 0) throw refusal(group, { ...setting, value }, errno, what);
  }
}

/** No list of CPUs means the parent's, which version 1 does not know. */
function cpusOrInherited(files: CgroupFiles, group: Group, value: string): string {
  if (value !== "") return value;
  return files.read(`${directoryOf(parentOf(group))}/cpuset.cpus`)?.trim() ?? "";
}

function refusal(group: Group, setting: Setting, errno: number, what: string): SandboxError {
  const { file, value, limit } = setting;
  const above = errno === ERRNO.EINVAL || errno === ERRNO.EACCES || errno === ERRNO.EBUSY
    ? `: the cgroup above it, or one below it, does not fit`
    : "";
  return new SandboxError(
    "InvalidArgument",
    `cannot limit ${what}: ${limit} "${value}" was refused for ${directoryOf(group)}/${file}: ` +
      `${errnoName(errno)}${above}`,
  );
}

/**
 * Refuses CPUs that there are not: version 2 would leave them out without a word.
 *
 * @param group The cgroup that is to get them; one above it that exists tells which there are.
 * @throws {SandboxError} `InvalidArgument`
 */
export function checkCpus(
  files: CgroupFiles,
  group: Group,
  list: string | undefined,
  what: string,
): void {
  if (list === undefined) return;
  for (let level = group; level.path !== "";) {
    level = parentOf(level);
    const file = level.hierarchy.version === 1 ? "cpuset.cpus" : "cpuset.cpus.effective";
    const there = files.read(`${directoryOf(level)}/${file}`)?.trim() ?? "";
    if (there === "") continue;
    const available = cpuList(there, what);
    if ([...cpuList(list, what)].every((cpu) => available.has(cpu))) return;
    throw new SandboxError(
      "InvalidArgument",
      `cannot limit ${what}: its CPUs are "${list}", but only "${there}" are there`,
    );
  }
}

/**
 * Moves threads into a cgroup, wherever they were. Those that have ended meanwhile are left out.
 *
 * @throws {SandboxError} When one cannot be moved.
 */
export async function moveThreads(
  files: CgroupFiles,
  group: Group,
  tids: readonly number[],
): Promise<void> {
  for (const tid of tids) {
    const errno = await files.writeLater(`${directoryOf(group)}/${membersFile(group)}`, `${tid}`);
    if (errno === 0 || errno === ERRNO.ESRCH) continue;
    throw systemError(`cannot move the thread ${tid} to the cgroup "${directoryOf(group)}"`, errno);
  }
}

/**
 * Removes a cgroup. Threads that have just ended may still be in it for a moment.
 *
 * @throws {SandboxError} When threads stay in it.
 */
export async function removeGroup(files: CgroupFiles, group: Group): Promise<void> {
  let intervalMs = REMOVAL_INTERVAL_MS;
  for (let i = 1;; i++, intervalMs *= 2) {
    const errno = files.removeDirectory(directoryOf(group));
    if (errno === 0 || errno === ERRNO.ENOENT) return;
    if (errno !== ERRNO.EBUSY || i >= REMOVALS_MAX) {
      throw systemError(`cannot remove the cgroup "${directoryOf(group)}"`, errno);
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
  }
}

/** Removes a cgroup that nobody uses any more; one that somebody uses stays. */
export function removeIfEmpty(files: CgroupFiles, group: Group): boolean {
  const errno = files.removeDirectory(directoryOf(group));
  if (errno === 0 || errno === ERRNO.ENOENT) return true;
  if (errno === ERRNO.EBUSY || errno === ENOTEMPTY) return false;
  throw systemError(`cannot remove the cgroup "${directoryOf(group)}"`, errno);
}
