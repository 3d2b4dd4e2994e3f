/**
 * Programs that run confined: a VMM, or a helper of one. The launcher takes rights away, puts the
 * process where it belongs (network namespace, cgroups, user) and then becomes the program, so the
 * process that is spawned is the program's own.
 *
 * @module
 */

import type { Launcher } from "./launcher.ts";
import { type ResidentProcess, startResident } from "./resident.ts";

/** The descriptor of the first tap device in a confined program; the next ones follow. */
export const FIRST_TAP_DESCRIPTOR = 10;

/** Capabilities that a helper may keep, such as a file server that acts for several users. */
export type KeptCapability =
  | "chown"
  | "dac_override"
  | "dac_read_search"
  | "fowner"
  | "fsetid"
  | "mknod"
  | "setfcap"
  | "setgid"
  | "setpcap"
  | "setuid"
  | "sys_chroot";

/** A program to run confined. */
export interface ConfinedProgram {
  /** An absolute path. Root owns it and all above it, and nobody else can write there. */
  readonly program: string;
  /** Its arguments, without its name. */
  readonly args: readonly string[];
  /** Where it starts, an absolute path. */
  readonly directory: string;
  /** The file that takes what it writes, an absolute path; made where it is missing. */
  readonly log: string;
  /** Whom it runs as; undefined for this process's own user, without its capabilities. */
  readonly user: { readonly uid: number; readonly gid: number } | undefined;
  /** Whether it gets the group of /dev/kvm, where that group may open it. */
  readonly kvm?: boolean;
  /**
   * `host`: this process's own network. Otherwise an empty network namespace with this many tap
   * devices `tap0`, `tap1` ..., which are down and open as descriptors
   * {@link FIRST_TAP_DESCRIPTOR} and following.
   */
  readonly network: "host" | { readonly taps: number };
  /** Cgroup below each hierarchy's root, made where it is missing; empty to stay in this one's. */
  readonly cgroup: string;
  /**
   * Capabilities that stay; none unless given. `all` is for programs that mount and enter namespaces
   * by themselves, and guard what they run. Only without `user`.
   */
  readonly capabilities?: readonly KeptCapability[] | "all";
  /** Whether it is killed when this process ends, however it ends. */
  readonly diesWithParent?: boolean;
  /** How much sooner than others it is killed for want of memory, -1000 to 1000; its parent's unless given. */
  readonly oomScoreAdjust?: number;
  /** Whether the kernel gives it no huge pages unasked (prctl(2), PR_SET_THP_DISABLE). */
  readonly smallPages?: boolean;
  /** Its environment as `NAME=value`, beside PATH. */
  readonly env?: readonly string[];
}

/** A command line. */
export interface ConfinedCommand {
  /** The launcher. */
  readonly command: string;
  /** Its arguments, those of the program at the end. */
  readonly args: readonly string[];
}

/**
 * The command line that runs a program confined. Spawn it with standard input `null`, and `piped`
 * outputs: on standard output comes one line with its start time, and on standard error one line
 * where the launcher fails; both end when the program begins. {@link spawnConfined} does all that.
 *
 * @param launcher The launcher.
 * @param confined The program.
 */
export function confinedCommand(launcher: Launcher, confined: ConfinedProgram): ConfinedCommand {
  const { user, network, cgroup, capabilities = [], oomScoreAdjust } = confined;
  const args = [
    "vmm",
    `--directory=${confined.directory}`,
    `--log=${confined.log}`,
    ...(user === undefined ? [] : [`--uid=${user.uid}`, `--gid=${user.gid}`]),
    ...(confined.kvm === true ? ["--kvm"] : []),
    ...(network === "host" ? [] : [`--taps=${network.taps}`]),
    ...(cgroup === "" ? [] : [`--cgroup=${cgroup}`]),
    ...(capabilities.length === 0 ? [] : [`--keep=${[capabilities].flat().join(",")}`]),
    ...(confined.diesWithParent === true ? ["--die-with-parent"] : []),
    ...(oomScoreAdjust === undefined ? [] : [`--oom-score-adj=${oomScoreAdjust}`]),
    ...(confined.smallPages === true ? ["--small-pages"] : []),
    ...(confined.env ?? []).map((entry) => `--env=${entry}`),
    "--",
    confined.program,
    ...confined.args,
  ];
  return { command: launcher.path, args };
}

/**
 * Runs a program confined. It outlives this process unless it is told not to.
 *
 * @param launcher The launcher.
 * @param confined The program.
 * @param signal Aborted when the caller gave up before the program has begun.
 * @returns As soon as the program has taken the launcher's place.
 * @throws {SandboxError} `FailedPrecondition` where the program is missing or is not safe to run, or
 *   this host lacks what is asked for; `PermissionDenied`; `Cancelled`. Then nothing runs.
 */
export async function spawnConfined(
  launcher: Launcher,
  confined: ConfinedProgram,
  signal?: AbortSignal,
): Promise<ResidentProcess> {
  const { command, args } = confinedCommand(launcher, confined);
  return await startResident(command, args, `cannot run "${confined.program}"`, signal);
}
