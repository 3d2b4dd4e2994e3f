/**
 * `deno task setup`: brings this machine what Quasaur needs. It looks first, tells what it will do,
 * installs only what is missing and removes nothing; run again, it does nothing.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { runPackageStep } from "./setup/apt.ts";
import {
  type BuildStep,
  exampleModules,
  guestImage,
  hostLauncher,
  nativeHelper,
  stubShims,
} from "./setup/build.ts";
import { inspectMachine, type Machine } from "./setup/machine.ts";
import { OWN_FILES } from "./setup/newer_suite.ts";
import { makePlan, type PackageStep } from "./setup/plan.ts";
import { Progress } from "./setup/progress.ts";
import { type Purpose, PURPOSES, type Requirement, requirementsFor } from "./setup/requirements.ts";
import { describe, needsRoot } from "./setup/words.ts";

const HELP = `Brings this machine what Quasaur needs: installs what is missing, builds the native
helpers, the example modules and what microVMs boot, and installs containerd's stub shim.

Usage: deno task setup [--for PURPOSE]... [--prefix DIR] [--dry-run]

  --for PURPOSE  only what is needed for demo, test or bench; without the stub shim
  --prefix DIR   where the stub shim goes, below bin (default /usr/local)
  --dry-run      say what would be done, and do nothing
  -h, --help     print this`;

/** What to set up. */
export interface SetupOptions {
  /** What for. */
  readonly purposes: readonly Purpose[];
  /** Whether to tell only. Default false. */
  readonly dryRun?: boolean;
  /** Where to install the stub shim; nowhere, where it is missing. */
  readonly shimPrefix?: string;
}

/** Most times that facts are gathered again after a step that changes them. */
const ROUNDS_MAX = 4;

/**
 * Sets the machine up.
 *
 * @param options What for.
 * @param progress Where to tell.
 * @throws {SandboxError} When something cannot be done; the message says what a person can do.
 */
export async function setUp(options: SetupOptions, progress: Progress): Promise<void> {
  const requirements = requirementsFor(options.purposes);
  const builds = [nativeHelper, hostLauncher, exampleModules, guestImage];
  if (options.shimPrefix !== undefined) builds.push(stubShims(options.shimPrefix));
  progress.line(`Set-up for ${options.purposes.join(", ")}: looking at this machine`);
  for (let round = 1; round <= ROUNDS_MAX; round++) {
    const machine = await inspectMachine(requirements, OWN_FILES);
    const plan = await makePlan(machine, requirements);
    if (plan.kind === "impossible") throw new SandboxError("FailedPrecondition", plan.message);
    const stale = await staleBuilds(builds);
    if (round === 1) tellPlan(machine, requirements, plan.steps, stale, progress);
    if (options.dryRun) return;
    if (plan.steps.length === 0) {
      await runBuilds(stale, progress);
      progress.line("Set-up is complete");
      return;
    }
    if (!machine.isRoot) throw needsRoot(plan.steps);
    await runRound(plan.steps, machine, progress);
  }
  throw new SandboxError(
    "Internal",
    `Cannot finish set-up: something is still missing after ${ROUNDS_MAX} rounds: see ${progress.logPath}`,
  );
}

/** Says what is there, what is missing and what will be done. */
function tellPlan(
  machine: Machine,
  requirements: readonly Requirement[],
  steps: readonly PackageStep[],
  builds: readonly BuildStep[],
  progress: Progress,
): void {
  for (const { id, title, why } of requirements) {
    const found = machine.found.get(id);
    progress.line(
      found === undefined ? `  missing  ${title}: ${why}` : `  found    ${title}: ${found}`,
    );
  }
  const lines = [
    ...steps.map(describe),
    ...builds.map(({ title }) => `build or install the ${title}`),
  ];
  if (lines.length === 0) return progress.line("Nothing is missing");
  progress.line("What will be done:");
  lines.forEach((line, index) => progress.line(`  ${index + 1}. ${line}`));
}

/** Carries out steps until the facts have changed: then the rest is planned again. */
async function runRound(
  steps: readonly PackageStep[],
  machine: Machine,
  progress: Progress,
): Promise<void> {
  for (const step of steps) {
    const begin = performance.now();
    progress.line(`  -> ${describe(step)}`);
    await runPackageStep(step, machine, progress);
    progress.note(`done in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
    if (step.kind === "update") return;
  }
}

/** The builds that have something to do. */
async function staleBuilds(builds: readonly BuildStep[]): Promise<BuildStep[]> {
  const stale = await Promise.all(builds.map((step) => step.isStale()));
  return builds.filter((_, index) => stale[index]);
}

/** Builds. */
async function runBuilds(builds: readonly BuildStep[], progress: Progress): Promise<void> {
  for (const step of builds) {
    const begin = performance.now();
    progress.line(`  -> build or install the ${step.title}`);
    await step.build();
    progress.note(`done in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  }
}

/** The log file of this run. */
export function setupLogPath(): string {
  return `${Deno.env.get("TMPDIR") ?? "/tmp"}/quasaur-setup-${Deno.uid()}.log`;
}

/** Reads the command line. */
function options(args: readonly string[]): SetupOptions | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      "for": { type: "string", multiple: true },
      "prefix": { type: "string", default: "/usr/local" },
      "dry-run": { type: "boolean", default: false },
      "help": { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return undefined;
  const purposes = values.for?.map((name) => {
    const purpose = PURPOSES.find((candidate) => candidate === name);
    if (purpose !== undefined) return purpose;
    throw new SandboxError(
      "InvalidArgument",
      `Invalid --for "${name}": expected one of ${PURPOSES.join(", ")}`,
    );
  });
  return {
    purposes: purposes ?? PURPOSES,
    dryRun: values["dry-run"],
    ...(purposes === undefined ? { shimPrefix: values.prefix } : {}),
  };
}

if (import.meta.main) {
  const progress = new Progress(setupLogPath());
  try {
    const chosen = options(Deno.args);
    if (chosen === undefined) progress.line(HELP);
    else await setUp(chosen, progress);
  } catch (error) {
    progress.line(SandboxError.from(error).message);
    Deno.exit(1);
  }
}
