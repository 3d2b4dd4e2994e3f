/**
 * The cgroups (version 2) of the containers: one below `/containers` for each. Where crun makes a
 * container it makes the cgroup too; freezing, killing, counting and changing limits are writes to files,
 * done here without another program.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { ContainerUsage } from "../protocol/messages.ts";
import { EBUSY, ENOENT, ESRCH, must, systemError } from "./errno.ts";
import { listDirectory, makeDirectory, readText, tryReadText, writeText } from "./files.ts";
import { EPOLLPRI, O_DIRECTORY, O_RDONLY, O_WRONLY, S_IFDIR, S_IFMT } from "./linux.ts";
import { sleep, type Watch, watch } from "./loop.ts";
import * as sys from "./sys.js";

const ROOT = "/sys/fs/cgroup";
/** The parent of all containers, as `cgroupsPath` wants it. */
const PARENT = "/containers";

/** What containers leave to kernel and agent, in bytes. */
const RESERVE_BYTES = 4 << 20;

/** How long freezing and emptying may take, in milliseconds. */
const SETTLE_MS = 5000;
/** Cgroups that a container may have made below its own; more are a mistake or an attack. */
const DESCENDANTS_MAX = 4096;

/** The name of a cgroup that is made ahead; no container can have it. */
const READY = ".ready";

/** Containers whose cgroups do not have their names. */
const names = new Map<string, string>();

/** The `cgroupsPath` of a container. */
export function cgroupsPath(container: string): string {
  return `${PARENT}/${names.get(container) ?? container}`;
}

/** Lets containers have every controller that the kernel has. */
export function enableControllers(): void {
  const controllers = readText(`${ROOT}/cgroup.controllers`).trim().split(" ");
  const enable = controllers.map((name) => `+${name}`).join(" ");
  writeText(`${ROOT}/cgroup.subtree_control`, enable);
  makeDirectory(`${ROOT}${PARENT}`);
  writeText(`${ROOT}${PARENT}/cgroup.subtree_control`, enable);
  boundContainers();
}

/**
 * Bounds what all containers together may use, by what there is: without that, containers that may
 * use more than the guest has would bring it to a crawl before anything is killed.
 */
export function boundContainers(): void {
  const [, available = "0"] = /^MemAvailable: +(\d+) kB$/m.exec(readText("/proc/meminfo")) ?? [];
  const used = Number(tryReadText(`${ROOT}${PARENT}/memory.current`)?.trim() ?? "0");
  const bytes = 1024 * Number(available) + used - RESERVE_BYTES;
  if (bytes > RESERVE_BYTES) writeText(`${ROOT}${PARENT}/memory.max`, `${bytes}`);
}

/**
 * Freezes or thaws a container, and waits until it is so.
 *
 * @throws AgentError `FailedPrecondition` where it does not stand still in time; it is thawed then.
 */
export async function setFrozen(container: string, frozen: boolean): Promise<void> {
  const directory = pathOf(container);
  writeText(`${directory}/cgroup.freeze`, frozen ? "1" : "0");
  const wanted = frozen ? 1 : 0;
  if (await eventually(() => eventsOf(directory)["frozen"] === wanted)) return;
  if (frozen) writeText(`${directory}/cgroup.freeze`, "0");
  throw new AgentError(
    "FailedPrecondition",
    `cannot ${frozen ? "pause" : "resume"} the container "${container}": its processes did not ` +
      `${frozen ? "stand still" : "go on"} within ${SETTLE_MS} ms`,
  );
}

/** Kills all processes of a container; none is fine. */
export function killCgroup(container: string): void {
  const errno = -sys.writeFile(`${pathOf(container)}/cgroup.kill`, "1", O_WRONLY);
  if (errno > 0 && errno !== ENOENT) {
    throw systemError(`cannot kill the processes of the container "${container}"`, errno);
  }
}

/** Sends a signal to each process of a container. */
export function signalCgroup(container: string, signal: number): void {
  for (const pid of cgroupPids(container)) {
    const errno = -sys.kill(pid, signal);
    if (errno > 0 && errno !== ESRCH) {
      throw systemError(`cannot send signal ${signal} to the process ${pid}`, errno);
    }
  }
}

/** The process ids of a container, as the guest sees them. */
export function cgroupPids(container: string): number[] {
  return descendantsOf(pathOf(container)).flatMap((directory) =>
    (tryReadText(`${directory}/cgroup.procs`) ?? "").split("\n").filter((line) => line !== "")
      .map(Number)
  );
}

/** Waits until no process is left in a container. */
export function cgroupEmptied(container: string): Promise<boolean> {
  return eventually(() => eventsOf(pathOf(container))["populated"] !== 1);
}

/**
 * Removes the cgroup of a container with all below it.
 *
 * @returns What went wrong, for the log; undefined for nothing.
 */
export async function removeCgroup(container: string): Promise<string | undefined> {
  let errno = 0;
  const isGone = () => {
    errno = 0;
    // The deepest come last in the list.
    for (const directory of descendantsOf(pathOf(container)).reverse()) {
      const answer = -sys.rmdir(directory);
      if (answer > 0 && answer !== ENOENT) errno = answer;
    }
    return errno !== EBUSY;
  };
  await eventually(isGone);
  if (errno === 0) {
    names.delete(container);
    return undefined;
  }
  return systemError(`cannot remove the cgroup of the container "${container}"`, errno).message;
}

/** What a container uses; undefined where its cgroup is gone. */
export function cgroupUsage(container: string): ContainerUsage | undefined {
  const directory = pathOf(container);
  const cpu = tryReadText(`${directory}/cpu.stat`);
  if (cpu === undefined) return undefined;
  const limit = tryReadText(`${directory}/memory.max`)?.trim() ?? "max";
  return {
    container,
    cpuUs: parseCounts(cpu)["usage_usec"] ?? 0,
    memoryBytes: Number(tryReadText(`${directory}/memory.current`) ?? 0),
    inactiveFileBytes:
      parseCounts(tryReadText(`${directory}/memory.stat`) ?? "")["inactive_file"] ?? 0,
    ...(limit === "max" ? {} : { memoryLimitBytes: Number(limit) }),
    pids: Number(tryReadText(`${directory}/pids.current`) ?? 0),
  };
}

/**
 * Makes the cgroup of a container.
 *
 * @throws AgentError Where it cannot be made.
 */
export function makeCgroup(container: string): void {
  if (isReady) {
    isReady = false;
    names.set(container, READY);
  } else makeDirectory(pathOf(container));
}

let isReady = false;

/**
 * Makes a cgroup for the next container ahead: with all controllers that takes a while.
 *
 * @throws AgentError Where it cannot be made.
 */
export function prepareCgroup(): void {
  if (isReady || [...names.values()].includes(READY)) return;
  makeDirectory(pathOf(READY));
  isReady = true;
}

/**
 * Opens a container's cgroup, for processes that begin in it.
 *
 * @returns A descriptor, the caller's.
 * @throws AgentError Where it is not there.
 */
export function openCgroup(container: string): number {
  const path = pathOf(container);
  return must(`cannot open "${path}"`, sys.open(path, O_RDONLY | O_DIRECTORY));
}

/**
 * The content of a file of a container's cgroup.
 *
 * @throws AgentError Where it cannot be read.
 */
export function readCgroupFile(container: string, file: string): string {
  return readText(`${pathOf(container)}/${file}`);
}

/** A container whose kills for want of memory are counted. */
export interface OomWatch {
  /** How many there were. */
  count(): number;
  /** Ends the watching. */
  stop(): void;
}

/**
 * Counts how often the kernel killed something in a container for want of memory.
 *
 * @param container The container; its cgroup is there.
 * @param killed Called when there were more kills than before.
 */
export function watchOom(container: string, killed: () => void): OomWatch {
  const path = `${pathOf(container)}/memory.events`;
  const fd = must(`cannot open "${path}"`, sys.open(path, O_RDONLY));
  const buffer = new ArrayBuffer(512);
  let seen = 0;
  let watcher: Watch | undefined;
  const look = () => {
    // Reading also tells the kernel that this change was seen.
    const length = sys.pread(fd, buffer, 0, buffer.byteLength, 0);
    if (length < 0) return stop();
    const count = parseCounts(sys.decodeUtf8(buffer, 0, length))["oom_kill"] ?? 0;
    const isMore = count > seen;
    seen = Math.max(seen, count);
    if (isMore) killed();
  };
  const stop = () => {
    if (watcher === undefined) return;
    watcher.stop();
    watcher = undefined;
    sys.close(fd);
  };
  const count = () => {
    if (watcher !== undefined) look();
    return seen;
  };
  try {
    watcher = watch(fd, EPOLLPRI, look);
  } catch (thrown) {
    sys.close(fd);
    throw thrown;
  }
  look();
  return { count, stop };
}

/** Writes limits to the cgroup of a container. */
export function writeLimits(container: string, writes: readonly LimitWrite[]): void {
  for (const { file, value, optional } of writes) {
    const path = `${pathOf(container)}/${file}`;
    const errno = -sys.writeFile(path, value, O_WRONLY);
    if (errno <= 0 || (optional && errno === ENOENT)) continue;
    throw systemError(`cannot set ${file} of the container "${container}" to ${value}`, errno);
  }
}

/** A value for a file of a cgroup. */
export interface LimitWrite {
  /** The file's name. */
  readonly file: string;
  /** What is written. */
  readonly value: string;
  /** Whether it does not matter where the kernel has no such file. */
  readonly optional: boolean;
}

/**
 * The content of `KEY NUMBER` lines, such as cpu.stat and memory.events.
 *
 * @param text The file.
 */
export function parseCounts(text: string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const line of text.split("\n")) {
    const space = line.indexOf(" ");
    if (space > 0) counts[line.slice(0, space)] = Number(line.slice(space + 1));
  }
  return counts;
}

function pathOf(container: string): string {
  return `${ROOT}${cgroupsPath(container)}`;
}

function eventsOf(directory: string): Record<string, number> {
  return parseCounts(tryReadText(`${directory}/cgroup.events`) ?? "");
}

/** A cgroup and all below it, parents before children. */
function descendantsOf(top: string): string[] {
  const found = [top];
  for (let index = 0; index < found.length && found.length < DESCENDANTS_MAX; index++) {
    const directory = found[index];
    for (const name of listDirectory(directory ?? "")) {
      // Files of a cgroup have a dot in their names, save for a few directories that might too.
      const stat = sys.lstat(`${directory}/${name}`);
      if (typeof stat !== "number" && (stat.mode & S_IFMT) === S_IFDIR) {
        found.push(`${directory}/${name}`);
      }
    }
  }
  return found;
}

/** Asks until it is so, at growing distances. */
async function eventually(isSo: () => boolean): Promise<boolean> {
  let waitedMs = 0;
  for (let pauseMs = 1; !isSo(); pauseMs = Math.min(2 * pauseMs, 50)) {
    if (waitedMs >= SETTLE_MS) return false;
    await sleep(pauseMs);
    waitedMs += pauseMs;
  }
  return true;
}
