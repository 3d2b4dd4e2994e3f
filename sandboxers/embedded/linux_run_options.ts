/**
 * From what a program asks for to what the lifecycle runs: sandboxes for Linux commands, containers
 * and processes, checked here, once, with messages that name the option.
 *
 * @module
 */

import { resolve } from "node:path";
import { SandboxError } from "../lifecycle/errors.ts";
import type {
  BindMountSpec,
  ContainerSpec,
  ProcessSpec,
  ResourceSpec,
  RootfsSpec,
  SandboxSpec,
  StdioSpec,
} from "../lifecycle/spec.ts";
import type { DirectoryMount } from "./api.ts";
import type { LinuxProcessOptions, LinuxUser, TerminalSize } from "./linux_api.ts";
import type { PlainLinuxRun } from "./linux_files.ts";

/** Where programs are looked for unless the environment says otherwise; as container tools have it. */
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_TERM = "xterm";

/** The period of CPU quotas, in microseconds. */
const CPU_PERIOD_US = 100_000;
/** Largest number of a user or group. */
const USER_ID_MAX = 2 ** 32 - 2;
/** Most characters of a terminal in a line or column. */
const TERMINAL_MAX = 65_535;

/** The namespace of sandboxes that containerd knows nothing of. */
const NAMESPACE = "embedded";

/** What can be asked of a sandbox of any kind. */
export interface LinuxSandboxOptions {
  /** CPUs; a part of one is rounded up where a kind has whole ones. */
  readonly cpus?: number;
  /** Memory that containers may use together, in bytes. */
  readonly memoryBytes?: number;
  /** The hostname inside. */
  readonly hostname?: string;
}

/**
 * The sandbox that the lifecycle is asked for.
 *
 * @param id Its id.
 * @param options What was asked for.
 * @param kinds What the kind makes of the rest.
 * @throws {SandboxError} `InvalidArgument`, naming the option.
 */
export function linuxSandboxSpec(
  id: string,
  options: LinuxSandboxOptions,
  kinds:
    & Pick<SandboxSpec, "network">
    & Partial<Pick<SandboxSpec, "dns" | "annotations" | "cgroupParent">>,
): SandboxSpec {
  const { hostname = "" } = options;
  if (!/^[A-Za-z0-9.-]{0,64}$/.test(hostname)) {
    throw bad("hostname", hostname, `letters, digits, "." and "-", at most 64`);
  }
  return {
    id,
    namespace: NAMESPACE,
    name: id,
    hostname,
    dns: { servers: [], searches: [], options: [] },
    cgroupParent: "",
    resources: sandboxResources(options),
    labels: {},
    annotations: {},
    ...kinds,
  };
}

function sandboxResources({ cpus, memoryBytes }: LinuxSandboxOptions): ResourceSpec {
  if (cpus !== undefined && !(Number.isFinite(cpus) && cpus > 0)) {
    throw bad("cpus", cpus, "a number above 0");
  }
  checkMemory(memoryBytes);
  return {
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
    ...(cpus === undefined ? {} : {
      cpuQuotaUs: Math.ceil(cpus * CPU_PERIOD_US),
      cpuPeriodUs: CPU_PERIOD_US,
    }),
  };
}

function checkMemory(memoryBytes: number | undefined): void {
  if (memoryBytes === undefined || (Number.isSafeInteger(memoryBytes) && memoryBytes > 0)) return;
  throw bad("memoryBytes", memoryBytes, "a whole number of bytes above 0");
}

/** What a container gets. */
export interface ContainerPlace {
  /** Its id. */
  readonly id: string;
  /** Its sandbox's. */
  readonly sandboxId: string;
  /** Its root file system on the host. */
  readonly rootfs: RootfsSpec;
  /** Where its streams go. */
  readonly stdio: StdioSpec;
}

/**
 * The container that the lifecycle is asked for.
 *
 * @param options What was asked for.
 * @param place Its ids, its files, and where its streams go.
 * @throws {SandboxError} `InvalidArgument`, naming the option.
 */
export function linuxContainerSpec(
  options: PlainLinuxRun,
  place: ContainerPlace,
): ContainerSpec {
  const { mounts = [], memoryBytes, readonlyRootfs = false } = options;
  checkMemory(memoryBytes);
  return {
    id: place.id,
    sandboxId: place.sandboxId,
    bundle: "",
    rootfs: place.rootfs,
    readonlyRootfs,
    process: linuxProcessSpec(options),
    mounts: mounts.map(bindMount),
    stdio: place.stdio,
    resources: memoryBytes === undefined ? {} : { memoryBytes },
    annotations: {},
  };
}

/**
 * The process that the lifecycle is asked for.
 *
 * @throws {SandboxError} `InvalidArgument`, naming the option.
 */
export function linuxProcessSpec(options: LinuxProcessOptions): ProcessSpec {
  const { command, env = {}, workdir = "/", user = {}, terminal = false } = options;
  if (command.length === 0 || command[0] === "") {
    throw bad("command", "", "a command with its arguments");
  }
  for (const word of command) {
    if (word.includes("\0")) throw bad("command", word, "text without NUL");
  }
  if (!isInnerPath(workdir)) throw bad("workdir", workdir, `an absolute path without ".."`);
  if (typeof terminal === "object") checkTerminalSize(terminal);
  const variables = {
    PATH: DEFAULT_PATH,
    ...(terminal === false ? {} : { TERM: DEFAULT_TERM }),
    ...env,
  };
  return {
    args: command,
    env: Object.entries(variables).map(([name, value]) => environmentEntry(name, value)),
    cwd: workdir,
    user: userOf(user),
  };
}

/**
 * Checks the size of a terminal.
 *
 * @throws {SandboxError} `InvalidArgument`
 */
export function checkTerminalSize({ columns, rows }: TerminalSize): void {
  for (const [name, value] of [["columns", columns], ["rows", rows]] as const) {
    if (Number.isSafeInteger(value) && value > 0 && value <= TERMINAL_MAX) continue;
    throw bad(`terminal.${name}`, value, `a whole number from 1 to ${TERMINAL_MAX}`);
  }
}

/**
 * The path of a container's root file system.
 *
 * @param path What was given.
 * @param expected What is expected, such as `rootfs, a directory`.
 * @throws {SandboxError} `InvalidArgument`
 */
export function rootfsPathOf(path: string | undefined, expected: string): string {
  if (path !== undefined && path !== "" && !path.includes("\0")) return resolve(path);
  throw new SandboxError("InvalidArgument", `cannot run the container: expected ${expected}`);
}

/**
 * The user that the lifecycle is asked for.
 *
 * @throws {SandboxError} `InvalidArgument`, naming the number.
 */
export function userOf(
  { uid = 0, gid = uid, additionalGids = [] }: LinuxUser,
): ProcessSpec["user"] {
  for (const [name, id] of [["uid", uid], ["gid", gid]] as const) checkUserId(name, id);
  for (const id of additionalGids) checkUserId("additionalGids", id);
  return { uid, gid, additionalGids };
}

function checkUserId(name: string, id: number): void {
  if (Number.isSafeInteger(id) && id >= 0 && id <= USER_ID_MAX) return;
  throw bad(`user.${name}`, id, `a whole number from 0 to ${USER_ID_MAX}`);
}

function environmentEntry(name: string, value: string): string {
  if (name === "" || /[=\0]/.test(name)) {
    throw bad("env", name, `a name that is not empty and has neither "=" nor NUL`);
  }
  if (value.includes("\0")) throw bad(`env ${name}`, value, "text without NUL");
  return `${name}=${value}`;
}

function bindMount({ source, destination, readonly = false }: DirectoryMount): BindMountSpec {
  if (source === "" || source.includes("\0")) throw bad("mounts.source", source, "a path");
  if (!isInnerPath(destination) || /^\/+$/.test(destination)) {
    throw bad("mounts.destination", destination, `an absolute path below "/" without ".."`);
  }
  return { source: resolve(source), destination, readonly };
}

function isInnerPath(path: string): boolean {
  return path.startsWith("/") && !path.includes("\0") && !path.split("/").includes("..");
}

function bad(option: string, found: string | number, expected: string): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `cannot run in a sandbox: ${option} ${JSON.stringify(found)}: expected ${expected}`,
  );
}
