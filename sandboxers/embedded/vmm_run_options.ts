/**
 * From what a program asks for to what the lifecycle runs in a machine: checked here, once, with
 * messages that name the option.
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
  SandboxSpec,
  StdioSpec,
} from "../lifecycle/spec.ts";
import type { DirectoryMount } from "./api.ts";
import type {
  TerminalSize,
  VmmProcessOptions,
  VmmRunOptions,
  VmmSandboxOptions,
  VmmUser,
} from "./vmm_api.ts";

/** Where programs are looked for unless the environment says otherwise; as container tools have it. */
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const DEFAULT_TERM = "xterm";

/** The period of CPU quotas, in microseconds. */
const CPU_PERIOD_US = 100_000;
/** Largest number of a user or group. */
const USER_ID_MAX = 2 ** 32 - 2;
/** Most characters of a terminal in a line or column. */
const TERMINAL_MAX = 65_535;

/** The name server of the network behind address translation: it asks those of the host. */
const USER_DNS = ["10.0.2.3"];

/** Asks for a shared tree; see vmm/config/annotations.ts. */
const SHARE_FS = "quasaur.dev/share-fs";

/** The namespace of sandboxes that containerd knows nothing of. */
const NAMESPACE = "embedded";

/**
 * The sandbox that the lifecycle is asked for.
 *
 * @throws {SandboxError} `InvalidArgument`, naming the option.
 */
export function vmmSandboxSpec(id: string, options: VmmSandboxOptions): SandboxSpec {
  const { network = { kind: "none" }, hostname = "", sharedTree = false } = options;
  if (!/^[A-Za-z0-9.-]{0,64}$/.test(hostname)) {
    throw bad("hostname", hostname, `letters, digits, "." and "-", at most 64`);
  }
  return {
    id,
    namespace: NAMESPACE,
    name: id,
    hostname,
    network,
    dns: { servers: network.kind === "user" ? USER_DNS : [], searches: [], options: [] },
    cgroupParent: "",
    resources: sandboxResources(options),
    labels: {},
    annotations: sharedTree ? { [SHARE_FS]: "virtiofs" } : {},
  };
}

function sandboxResources({ cpus, memoryBytes }: VmmSandboxOptions): ResourceSpec {
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

/**
 * The container that the lifecycle is asked for.
 *
 * @param options What was asked for.
 * @param place Its ids, and where its streams go.
 * @throws {SandboxError} `InvalidArgument`, naming the option.
 */
export function vmmContainerSpec(
  options: VmmRunOptions,
  place: { readonly id: string; readonly sandboxId: string; readonly stdio: StdioSpec },
): ContainerSpec {
  const { mounts = [], memoryBytes, readonlyRootfs = false } = options;
  checkMemory(memoryBytes);
  return {
    id: place.id,
    sandboxId: place.sandboxId,
    bundle: "",
    rootfs: { kind: "directory", path: rootfsOf(options) },
    readonlyRootfs,
    process: vmmProcessSpec(options),
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
export function vmmProcessSpec(options: VmmProcessOptions): ProcessSpec {
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

/** A directory, or an image file: the driver sees which. */
function rootfsOf({ rootfs, image }: VmmRunOptions): string {
  if (rootfs !== undefined && image !== undefined) {
    throw new SandboxError(
      "InvalidArgument",
      "cannot run the container: both rootfs and image are given: expected one of them",
    );
  }
  const path = rootfs ?? image;
  if (path === undefined || path === "" || path.includes("\0")) {
    throw new SandboxError(
      "InvalidArgument",
      "cannot run the container: expected rootfs, a directory, or image, a file system image",
    );
  }
  return resolve(path);
}

function userOf({ uid = 0, gid = uid, additionalGids = [] }: VmmUser): ProcessSpec["user"] {
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
    `cannot run in a machine: ${option} ${JSON.stringify(found)}: expected ${expected}`,
  );
}
