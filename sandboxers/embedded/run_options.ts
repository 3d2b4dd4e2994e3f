/**
 * From what a program asks for to what the lifecycle runs: checked here, once, with messages that
 * name the option.
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
  StdioSpec,
} from "../lifecycle/spec.ts";
import type { DirectoryMount, RunOptions } from "./api.ts";
import type { LinuxUser } from "./linux_api.ts";
import { userOf } from "./linux_run_options.ts";

/** The period of CPU quotas, in microseconds. */
const CPU_PERIOD_US = 100_000;

/** Options whose user, where there is one, is a number. */
export interface PlainRunOptions extends Omit<RunOptions, "user"> {
  /** Who it runs as. */
  readonly user?: LinuxUser | string;
}

/** What a container spec is made of beside the options. */
export interface RunPlace {
  /** The container's id. */
  readonly id: string;
  /** Its sandbox's id. */
  readonly sandboxId: string;
  /** The directory that becomes `/`. */
  readonly rootfs: RootfsSpec;
  /** The module's path inside. */
  readonly program: string;
  /** Where its streams go. */
  readonly stdio: StdioSpec;
}

/** What of a run does not depend on where it happens. */
export interface RunPlan {
  /** Arguments after the program's name. */
  readonly args: readonly string[];
  /** As `NAME=value`. */
  readonly env: readonly string[];
  /** Working directory inside. */
  readonly cwd: string;
  /** With absolute paths on both sides. */
  readonly mounts: readonly BindMountSpec[];
  /** Its limits. */
  readonly resources: ResourceSpec;
  /** Who it runs as. */
  readonly user: ProcessSpec["user"];
  /** Whether its `/` cannot be written to. */
  readonly readonlyRootfs: boolean;
}

/**
 * Checks the options.
 *
 * @throws {SandboxError} `InvalidArgument`, naming the option.
 */
export function planRun(options: PlainRunOptions): RunPlan {
  const { args = [], env = {}, workdir = "/", mounts = [], memoryBytes, cpus, user = {} } = options;
  for (const arg of args) {
    if (arg.includes("\0")) throw bad("args", arg, "text without NUL");
  }
  if (!isInnerPath(workdir)) throw bad("workdir", workdir, `an absolute path without ".."`);
  if (memoryBytes !== undefined && !(Number.isSafeInteger(memoryBytes) && memoryBytes > 0)) {
    throw bad("memoryBytes", memoryBytes, "a whole number of bytes above 0");
  }
  if (cpus !== undefined && !(Number.isFinite(cpus) && cpus > 0)) {
    throw bad("cpus", cpus, "a number above 0");
  }
  if (typeof user === "string" && options.image === undefined) {
    throw bad("user", user, "numbers: names are those of an image");
  }
  return {
    args,
    env: Object.entries(env).map(([name, value]) => environmentEntry(name, value)),
    cwd: workdir,
    mounts: mounts.map(bindMount),
    resources: {
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...(cpus === undefined
        ? {}
        : { cpuQuotaUs: Math.ceil(cpus * CPU_PERIOD_US), cpuPeriodUs: CPU_PERIOD_US }),
    },
    user: userOf(typeof user === "string" ? {} : user),
    readonlyRootfs: options.readonlyRootfs ?? false,
  };
}

function environmentEntry(name: string, value: string): string {
  if (name === "" || /[=\0]/.test(name)) {
    throw bad("env", name, `a name that is not empty and has neither "=" nor NUL`);
  }
  if (value.includes("\0")) throw bad(`env ${name}`, value, "text without NUL");
  return `${name}=${value}`;
}

function bindMount({ source, destination, readonly = false }: DirectoryMount): BindMountSpec {
  if (source === "" || source.includes("\0")) throw bad("mounts.source", source, "a directory");
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
    `cannot run the module: ${option} ${JSON.stringify(found)}: expected ${expected}`,
  );
}

/** The container that the lifecycle is asked for. */
export function containerSpec(plan: RunPlan, place: RunPlace): ContainerSpec {
  const process: ProcessSpec = {
    args: [place.program, ...plan.args],
    env: plan.env,
    cwd: plan.cwd,
    user: plan.user,
  };
  return {
    id: place.id,
    sandboxId: place.sandboxId,
    bundle: "",
    rootfs: place.rootfs,
    readonlyRootfs: plan.readonlyRootfs,
    process,
    mounts: plan.mounts,
    stdio: place.stdio,
    resources: plan.resources,
    annotations: {},
  };
}
