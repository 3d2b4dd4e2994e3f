/**
 * Processes beside a container's init, the quick way: the native `enter` does what `crun exec` does,
 * in a few milliseconds and without another program. It knows what containerd asks for; whatever
 * else a process wants (a terminal, a scheduling class, system calls that somebody is asked about)
 * is left to crun.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type { Json, JsonObject } from "../protocol/messages.ts";
import { E2BIG, EACCES, EAGAIN, ENOENT, ENOEXEC, ENOTDIR, errnoName, ESRCH } from "./errno.ts";
import { isObject, listAt, objectAt, textAt } from "./json_values.ts";
import { EPOLLIN } from "./linux.ts";
import { watch } from "./loop.ts";
import { watchChild } from "./processes.ts";
import type { ProcessStdio } from "./stdio.ts";
import * as sys from "./sys.js";

/** The kernel's capabilities in the order of their numbers (linux/capability.h). */
const CAPABILITIES = (
  "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE " +
  "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO " +
  "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME " +
  "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG " +
  "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split(" ").map((name) => `CAP_${name}`);

/** Kinds of limits in the order of their numbers (asm-generic/resource.h). */
const LIMITS = (
  "CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE NICE RTPRIO " +
  "RTTIME"
).split(" ").map((name) => `RLIMIT_${name}`);

/** Flags of seccomp(2) by their names in OCI's configuration. */
const FILTER_FLAGS: Readonly<Record<string, number>> = {
  SECCOMP_FILTER_FLAG_TSYNC: 1,
  SECCOMP_FILTER_FLAG_LOG: 2,
  SECCOMP_FILTER_FLAG_SPEC_ALLOW: 4,
};

/** Fields of a process that are understood here, or mean nothing in a guest. */
const KNOWN_FIELDS = new Set([
  "args",
  "env",
  "cwd",
  "user",
  "capabilities",
  "rlimits",
  "noNewPrivileges",
  "oomScoreAdj",
  "terminal",
  "consoleSize",
  "apparmorProfile",
  "selinuxLabel",
  "execCPUAffinity",
]);

/** The steps of `native/enter.c`, for messages. */
const STEPS = [
  "",
  "set its descriptors up",
  "set its limits",
  "enter the container",
  "change to its directory",
  "change to its user",
  "take its capabilities",
  "filter its system calls",
  "execute",
  "build its root",
];
/** Changing to the working directory. */
export const STEP_CWD = 4;
/** Finding and executing the program. */
export const STEP_EXECUTE = 8;

/** How the system calls of a container's processes are filtered. */
export interface SystemCallFilter {
  /** The program for the kernel; null where nothing is filtered. */
  readonly program: ArrayBuffer | null;
  /** SECCOMP_FILTER_FLAG_*. */
  readonly flags: number;
}

/** What a process is, in numbers. */
export type EnterPlan = Omit<sys.EnterProcess, "pidfd" | "cgroup" | "fds">;

/** A container that can be entered. */
export interface EnterableContainer {
  /** A pidfd of its init process. */
  readonly pidfd: number;
  /** Its cgroup, an open directory. */
  readonly cgroup: number;
}

/**
 * The flags for a container's filter; undefined where crun has to set it.
 *
 * @param seccomp OCI's `linux.seccomp`.
 */
export function filterFlags(seccomp: JsonObject): number | undefined {
  if ("listenerPath" in seccomp) return undefined;
  const names = listAt(seccomp, "flags");
  // As crun does where nothing is said.
  if (names.length === 0) return FILTER_FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"];
  let flags = 0;
  for (const name of names) {
    const flag = FILTER_FLAGS[String(name)];
    if (flag === undefined) return undefined;
    flags |= flag;
  }
  return flags;
}

/**
 * What the native call needs for a process; undefined where it is one for crun.
 *
 * @param process OCI's `process`, as crun would get it.
 * @param filter How the container's system calls are filtered.
 */
export function planEnter(process: JsonObject, filter: SystemCallFilter): EnterPlan | undefined {
  if (process["terminal"] === true) return undefined;
  if (!Object.keys(process).every((key) => KNOWN_FIELDS.has(key))) return undefined;
  const args = texts(process["args"]);
  const env = texts(process["env"]);
  const cwd = textAt(process, "cwd");
  const user = process["user"];
  const sets = process["capabilities"];
  const limits = limitNumbers(listAt(process, "rlimits"));
  if (args === undefined || args.length === 0 || args[0] === "") return undefined;
  if (env === undefined || cwd === undefined || !cwd.startsWith("/")) return undefined;
  if (!isObject(user) || !isObject(sets) || limits === undefined) return undefined;
  const capabilities = capabilityNumbers(sets);
  const groups = listAt(user, "additionalGids").map(Number);
  // What could look into the process before it executes must not share a moment with the agent's
  // memory: crun starts with one of its own.
  if (capabilities === undefined || listAt(sets, "bounding").includes("CAP_SYS_PTRACE")) {
    return undefined;
  }
  return {
    args,
    env,
    cwd,
    uid: Number(user["uid"] ?? 0),
    gid: Number(user["gid"] ?? 0),
    groups,
    umask: Number(user["umask"] ?? 0o022),
    oomScoreAdj: Number(process["oomScoreAdj"] ?? 0),
    noNewPrivileges: process["noNewPrivileges"] === true ? 1 : 0,
    limits,
    capabilities,
    filter: filter.program,
    filterFlags: filter.flags,
  };
}

/**
 * Starts a process in a container.
 *
 * @param container The container.
 * @param plan See {@link planEnter}.
 * @param stdio The process's streams; the ends for the child are closed here.
 * @param action For errors.
 * @returns Its process id, once it has executed.
 * @throws AgentError Why it could not, in the words of runc.
 */
export async function enterContainer(
  container: EnterableContainer,
  plan: EnterPlan,
  stdio: ProcessStdio,
  action: string,
): Promise<number> {
  let started: readonly [number, number] | number;
  try {
    started = sys.enter({ ...container, ...plan, fds: stdio.childFds });
  } finally {
    stdio.closeChildEnds();
  }
  if (typeof started === "number") {
    throw new AgentError("FailedPrecondition", `${action}: ${errnoName(started)}`);
  }
  const [pid, report] = started;
  const failure = await readReport(report);
  if (failure === undefined) return pid;
  watchChild(pid, () => {});
  throw enterFailure(action, plan, failure[0], failure[1]);
}

/**
 * Why a process could not be started, as an error.
 *
 * @param action The failed action.
 * @param plan What was to be started.
 * @param step Which step failed.
 * @param errno Why, positive.
 */
export function enterFailure(
  action: string,
  plan: Pick<EnterPlan, "args" | "cwd">,
  step: number,
  errno: number,
): AgentError {
  const program = plan.args[0] ?? "";
  if (step === STEP_EXECUTE) {
    return new AgentError(
      "InvalidArgument",
      `${action}: exec: "${program}": ${why(program, errno)}`,
    );
  }
  if (step === STEP_CWD) {
    const reason = errno === ENOENT ? "no such file or directory" : errnoText(errno);
    return new AgentError(
      "InvalidArgument",
      `${action}: chdir to cwd ("${plan.cwd}") set in config.json failed: ${reason}`,
    );
  }
  if (errno === ESRCH) {
    return new AgentError("FailedPrecondition", `${action}: the container is not running`);
  }
  return new AgentError("Internal", `${action}: cannot ${STEPS[step]}: ${errnoName(errno)}`);
}

function why(program: string, errno: number): string {
  if (errno !== ENOENT) return errnoText(errno);
  return program.includes("/")
    ? `stat ${program}: no such file or directory`
    : "executable file not found in $PATH";
}

function errnoText(errno: number): string {
  switch (errno) {
    case EACCES:
      return "permission denied";
    case ENOTDIR:
      return "not a directory";
    case ENOEXEC:
      return "exec format error (is it for another machine?)";
    case E2BIG:
      return "argument list too long";
    default:
      return errnoName(errno);
  }
}

/**
 * Waits for what a process that was started natively reports.
 *
 * @param fd What it reports by; closed here.
 * @returns Two numbers; undefined where it has executed, or ended, without a word.
 */
export function readReport(fd: number): Promise<readonly [number, number] | undefined> {
  sys.setNonblocking(fd);
  return new Promise((resolve) => {
    const watcher = watch(fd, EPOLLIN, () => {
      const buffer = new ArrayBuffer(8);
      const length = sys.read(fd, buffer, 0, 8);
      if (length === -EAGAIN) return;
      watcher.stop();
      sys.close(fd);
      const view = new DataView(buffer);
      resolve(length === 8 ? [view.getInt32(0, true), view.getInt32(4, true)] : undefined);
    });
  });
}

function texts(list: Json | undefined): string[] | undefined {
  if (!Array.isArray(list)) return undefined;
  const found: string[] = [];
  for (const each of list) {
    if (typeof each !== "string" || each.includes("\0")) return undefined;
    found.push(each);
  }
  return found;
}

/** Two numbers of 32 bits for each set; undefined for a capability that has no number here. */
function capabilityNumbers(sets: JsonObject): number[] | undefined {
  const numbers: number[] = [];
  for (const name of ["bounding", "effective", "permitted", "inheritable", "ambient"]) {
    let low = 0;
    let high = 0;
    for (const capability of listAt(sets, name)) {
      const index = CAPABILITIES.indexOf(String(capability));
      if (index < 0) return undefined;
      if (index < 32) low |= 1 << index;
      else high |= 1 << (index - 32);
    }
    numbers.push(low >>> 0, high >>> 0);
  }
  return numbers;
}

/** Resource, soft and hard limit of each; -1 for what does not fit a number, which is no limit. */
function limitNumbers(list: readonly Json[]): number[] | undefined {
  const numbers: number[] = [];
  for (const limit of list) {
    if (!isObject(limit)) return undefined;
    const resource = LIMITS.indexOf(textAt(limit, "type") ?? "");
    if (resource < 0) return undefined;
    const [soft, hard] = [Number(limit["soft"]), Number(limit["hard"])];
    numbers.push(resource, boundedLimit(soft), boundedLimit(hard));
  }
  return numbers;
}

function boundedLimit(value: number): number {
  return value > Number.MAX_SAFE_INTEGER ? -1 : value;
}

/**
 * The filter of a container; undefined where its processes are for crun only.
 *
 * @param config The container's configuration, as crun got it.
 * @param program Reads the program that crun made for the kernel; undefined where there is none.
 */
export function containerFilter(
  config: JsonObject,
  program: () => ArrayBuffer | undefined,
): SystemCallFilter | undefined {
  const linux = objectAt(config, "linux");
  if ("personality" in linux) return undefined;
  const seccomp = linux["seccomp"];
  if (!isObject(seccomp)) return { program: null, flags: 0 };
  const flags = filterFlags(seccomp);
  const found = flags === undefined ? undefined : program();
  return flags === undefined || found === undefined ? undefined : { program: found, flags };
}
