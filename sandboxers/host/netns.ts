/**
 * Runs ip(8) and tc(8) in network namespaces by the launcher: several steps, each a batch of
 * commands in one namespace, in one call.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { CallOptions, Launcher } from "./launcher.ts";

/** Most bytes of one batch: it travels as one argument (MAX_ARG_STRLEN). */
const BATCH_BYTES_MAX = 131_071;

/** A batch of commands. */
export interface NetnsStep {
  /** The namespace, a path such as `/run/netns/a` or {@link processNetns}. */
  readonly netns: string;
  /** The program; `sysctl` sets what is below /proc/sys/net. */
  readonly program: "ip" | "tc" | "sysctl";
  /**
   * Its commands as for `ip -batch`, without the program's name; for `sysctl` lines such as
   * `ipv4/ip_forward 1`.
   */
  readonly commands: readonly string[];
  /** Whether it goes on at a command that fails, and the step never fails. */
  readonly isOptional?: boolean;
}

/** The network namespace of a process, as a path. */
export function processNetns(pid: number): string {
  return `/proc/${pid}/ns/net`;
}

/**
 * Runs steps one after the other.
 *
 * @param launcher The launcher.
 * @param action What is being done, for errors.
 * @param steps The steps; the first that fails ends it.
 * @param options See {@link CallOptions}.
 * @returns What each step wrote: details as JSON (`-j -d`), a line for each command that shows
 *   something.
 * @throws {SandboxError} `FailedPrecondition` with the program's own words; `NotFound` where a
 *   namespace is missing; `InvalidArgument`.
 */
export async function runInNetns(
  launcher: Launcher,
  action: string,
  steps: readonly NetnsStep[],
  options: CallOptions = {},
): Promise<readonly string[]> {
  const args = steps.flatMap(({ netns, program, commands, isOptional }) => {
    const batch = commands.map((command) => `${command}\n`).join("");
    if (new TextEncoder().encode(batch).length > BATCH_BYTES_MAX) {
      throw new SandboxError("InvalidArgument", `${action}: more commands than fit into one batch`);
    }
    return [isOptional === true ? "try" : "must", netns, program, batch];
  });
  const text = await launcher.run(action, ["netns", ...args], options);
  return text.split("\0").slice(0, steps.length);
}
