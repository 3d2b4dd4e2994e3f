/**
 * Carries out the package steps of a plan: with a log file, a time limit, progress, and never with a
 * removal.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { tail } from "../../tests/support/command.ts";
import { installCommand, type Machine } from "./machine.ts";
import type { PackageStep } from "./plan.ts";
import type { Progress } from "./progress.ts";

/** How long `apt-get update` may take, in milliseconds. */
const UPDATE_TIMEOUT_MS = 5 * 60_000;

/** How long an installation may take, in milliseconds. */
const INSTALL_TIMEOUT_MS = 30 * 60_000;

/** apt must not ask, and must wait for another apt instead of failing. */
const APT_OPTIONS = [
  "-o",
  "DPkg::Lock::Timeout=120",
  "-o",
  "Dpkg::Options::=--force-confdef",
  "-o",
  "Dpkg::Options::=--force-confold",
];

/** The environment in which nobody asks anything. */
const APT_ENVIRONMENT = {
  DEBIAN_FRONTEND: "noninteractive",
  NEEDRESTART_SUSPEND: "1",
  LC_ALL: "C.UTF-8",
};

/**
 * Carries out one step.
 *
 * @param step The step.
 * @param machine The facts on which it was planned.
 * @param progress Where to tell, and what holds the log.
 * @throws {SandboxError} When it fails, with the end of apt's output; or when it would remove
 *   packages, then nothing is done.
 */
export async function runPackageStep(
  step: PackageStep,
  machine: Machine,
  progress: Progress,
): Promise<void> {
  switch (step.kind) {
    case "write":
      await Deno.writeTextFile(step.path, step.text);
      return;
    case "update":
      return await update(progress);
    case "install":
      await refuseRemovals(step.packages, step.suite, machine);
      return await install(step.packages, step.suite, progress);
  }
}

/** Fetches the package lists. */
async function update(progress: Progress): Promise<void> {
  const output = await apt(["apt-get", "update"], UPDATE_TIMEOUT_MS, progress);
  // apt-get update succeeds though a source could not be read.
  if (/^(E|Err):/m.test(output)) throw failed("fetch the package lists", output, progress);
}

/** Installs; once more with fresh lists where these named files that are gone. */
async function install(
  packages: readonly string[],
  suite: string | undefined,
  progress: Progress,
): Promise<void> {
  const [program, ...args] = installCommand(packages, suite);
  const command: [string, ...string[]] = [program, ...APT_OPTIONS, ...args];
  try {
    await apt(command, INSTALL_TIMEOUT_MS, progress);
  } catch (error) {
    if (
      !(error instanceof SandboxError && /404 +Not Found|Hash Sum mismatch/.test(error.message))
    ) {
      throw error;
    }
    progress.note("the package lists are out of date: fetching them again");
    await update(progress);
    await apt(command, INSTALL_TIMEOUT_MS, progress);
  }
}

/** Runs apt with its output in the log. Returns the output. */
async function apt(
  command: readonly [string, ...string[]],
  timeoutMs: number,
  progress: Progress,
): Promise<string> {
  const { status, output } = await progress.runLogged(command, APT_ENVIRONMENT, timeoutMs);
  if (status !== 0) throw failed(`run "${command.join(" ")}"`, output, progress);
  return output;
}

/** A failure of apt. */
function failed(action: string, output: string, progress: Progress): SandboxError {
  return new SandboxError(
    "FailedPrecondition",
    `Cannot ${action}: see ${progress.logPath}, which ends with:\n${tail(output, 15)}`,
  );
}

/** Looks first what an installation would do. */
async function refuseRemovals(
  packages: readonly string[],
  suite: string | undefined,
  machine: Machine,
): Promise<void> {
  const command = installCommand(packages, suite).join(" ");
  const simulation = await machine.apt?.simulate(packages, suite);
  if (simulation === undefined) return;
  if (!simulation.solvable) {
    throw new SandboxError(
      "FailedPrecondition",
      `Cannot install ${packages.join(", ")}: apt finds no solution for "${command}":\n` +
        tail(simulation.output, 15),
    );
  }
  if (simulation.removes.length > 0) {
    throw new SandboxError(
      "FailedPrecondition",
      `Cannot install ${packages.join(", ")}: that would remove ${
        simulation.removes.join(", ")
      }: ` +
        `decide yourself, with "${command}", and run set-up again`,
    );
  }
}
