/**
 * `quasaur containerd`: brings the sandboxers into containerd's configuration and out again.
 *
 * @module
 */

import { Command } from "commander";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import type { Planned } from "./containerd/change.ts";
import type { Wanted } from "./containerd/sections.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import { complain, print } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

/** The options as commander gathers them. */
export interface ContainerdOptions {
  /** Whether to print the sections, which is the default. */
  readonly print?: boolean;
  /** Whether to show what would be changed. */
  readonly diff?: boolean;
  /** Whether to write nothing. */
  readonly dryRun?: boolean;
  /** Whether to merge. */
  readonly apply?: boolean;
  /** Whether to take it back. */
  readonly undo?: boolean;
  /** The kinds; all where it is missing. */
  readonly kind?: readonly string[];
  /** containerd's configuration. */
  readonly file: string;
  /** The directory of the sandboxers' sockets. */
  readonly runDir: string;
  /** Whether values that differ are replaced. */
  readonly force?: boolean;
  /** The containerd that checks the result. */
  readonly containerd: string;
  /** Whether it checks the result. */
  readonly check: boolean;
}

const EXAMPLES = `
Without --diff, --apply or --undo it prints the sections and looks at no file but for its version.
--apply keeps what is in the file with its order and comments, has containerd read the result before
it is put in place, and leaves a copy of the old file beside it. Sections that are there already and
say something else are not touched without --force. containerd reads its configuration when it
starts: restart it afterwards, with the sandboxers running.

Ends with 1 where sections differ or containerd does not take the result; nothing is changed then.

Examples:
  quasaur containerd config
  quasaur containerd config --diff
  quasaur containerd config --apply --kind wasm --kind gvisor
  quasaur containerd config --apply --dry-run
  quasaur containerd config --undo`;

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 */
export function containerdCommand(end: (code: number) => void): Command {
  return new Command("containerd")
    .description("Bring the sandboxers into containerd's configuration.")
    .helpCommand(false)
    .addCommand(configCommand(end));
}

function configCommand(end: (code: number) => void): Command {
  return new Command("config")
    .description("Print or merge the sections that containerd's configuration needs.")
    .option("--print", "print the sections (this is what it does by itself)")
    .option("--diff", "show what --apply would change, and change nothing")
    .option("--apply", "merge them into the file")
    .option("--undo", "take away what --apply added")
    .option("--dry-run", "with --apply or --undo: do all but write, and show the changes")
    .option(
      "--kind <KIND>",
      "wasm, vmm, quark, or gvisor for quark without Quark; may be repeated (default: all)",
      (name: string, before: readonly string[] = []) => [...before, name],
    )
    .option("--file <FILE>", "containerd's configuration", "/etc/containerd/config.toml")
    .option("--run-dir <DIR>", "the directory of the sandboxers' sockets", "/run/quasaur")
    .option("--force", "replace values that differ")
    .option("--containerd <PROGRAM>", "the containerd that checks the result", "containerd")
    .option("--no-check", "do not have containerd check the result")
    .addHelpText("after", EXAMPLES)
    .action(async (options: ContainerdOptions) => end(await configureContainerd(options)));
}

/**
 * Does what the command does.
 *
 * @param options What the command line says.
 * @returns The exit code.
 * @throws {UsageError} Where options do not go together.
 */
export async function configureContainerd(options: ContainerdOptions): Promise<number> {
  const modes = ([["--print", options.print], ["--diff", options.diff], [
    "--apply",
    options.apply,
  ], ["--undo", options.undo]] as const).filter(([, is]) => is === true).map(([name]) => name);
  if (modes.length > 1) {
    throw new UsageError(`expected only one of ${modes.join(", ")}`);
  }
  const isDry = options.dryRun === true;
  if (isDry && modes[0] !== "--apply" && modes[0] !== "--undo") {
    throw new UsageError("--dry-run needs --apply or --undo");
  }
  const file = absolute("--file", options.file);
  const { readKinds } = await import("./containerd/sections.ts");
  const wanted = {
    kinds: readKindsOf(options.kind ?? [], readKinds),
    runDirectory: absolute("--run-dir", options.runDir),
  };
  try {
    if (modes[0] === "--undo") return await undoContainerd(file, isDry);
    if (modes[0] === "--apply") return await apply(file, wanted, options, isDry);
    if (modes[0] === "--diff") return await diff(file, wanted, options);
    return await printSections(file, wanted);
  } catch (error) {
    complain(SandboxError.from(error).message);
    return SOME_FAILED;
  }
}

function readKindsOf(
  names: readonly string[],
  read: (names: readonly string[]) => Wanted["kinds"],
): Wanted["kinds"] {
  try {
    return read(names);
  } catch (error) {
    throw new UsageError(SandboxError.from(error).message, { cause: error });
  }
}

function absolute(flag: string, path: string): string {
  if (path.includes("\0") || path === "") {
    throw new UsageError(`invalid ${flag} ${JSON.stringify(path)}: expected a path`);
  }
  const whole = path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
  return whole.length > 1 ? whole.replace(/\/+$/, "") : whole;
}

async function printSections(file: string, wanted: Wanted): Promise<number> {
  const { readConfiguration } = await import("./containerd/change.ts");
  const { sectionsFor, sectionText } = await import("./containerd/sections.ts");
  const { version, exists } = await readConfiguration(file);
  const head = exists ? `# For ${file} (version ${version}).\n` : "version = 3\n";
  print([head, ...sectionsFor(version, wanted).map(sectionText)].join("\n"));
  return 0;
}

async function diff(file: string, wanted: Wanted, options: ContainerdOptions): Promise<number> {
  const { plan } = await import("./containerd/change.ts");
  const planned = await plan(file, wanted, options.force === true);
  await showDiff(planned.found.text, planned.text, file);
  tell(planned);
  return tellDifferences(planned, options);
}

async function apply(
  file: string,
  wanted: Wanted,
  options: ContainerdOptions,
  isDry: boolean,
): Promise<number> {
  const { applyPlanned, checkPlanned, plan } = await import("./containerd/change.ts");
  const planned = await plan(file, wanted, options.force === true);
  tell(planned);
  const refused = tellDifferences(planned, options);
  if (refused !== 0) {
    const { plan: planForced } = await import("./containerd/change.ts");
    const forced = await planForced(file, wanted, true);
    await showDiff(forced.found.text, forced.text, file);
    return refused;
  }
  if (options.check) await checkPlanned(planned, wanted, options.containerd);
  if (planned.edits.length === 0) {
    print(`${file}: nothing to do, all sections are there\n`);
    return 0;
  }
  if (isDry) {
    await showDiff(planned.found.text, planned.text, file);
    return 0;
  }
  const backup = await applyPlanned(planned);
  const { pathText } = await import("./containerd/sections.ts");
  for (const { path } of planned.added) print(`added ${pathText(path)}\n`);
  for (const { path } of planned.differences) print(`changed ${pathText(path)}\n`);
  print(
    `wrote ${planned.found.path}${backup === undefined ? "" : `; the old file is ${backup}`}\n`,
  );
  print("start the sandboxers, then restart containerd\n");
  return 0;
}

/**
 * Takes away what `--apply` added.
 *
 * @param file containerd's configuration.
 * @param isDry Whether to write nothing, and show the changes.
 * @returns The exit code.
 * @throws {SandboxError} Where a file cannot be read or written.
 */
export async function undoContainerd(file: string, isDry: boolean): Promise<number> {
  const { applyUndo, planUndo } = await import("./containerd/change.ts");
  const { pathText } = await import("./containerd/sections.ts");
  const undone = await planUndo(file);
  if (undone === undefined) {
    print(`${file}: nothing to do, nothing was added by this command\n`);
    return 0;
  }
  if (isDry) await showDiff(undone.before, undone.after ?? "", file);
  else {
    await applyUndo(undone);
    print(undone.after === undefined ? `removed ${undone.path}\n` : `wrote ${undone.path}\n`);
    print("restart containerd\n");
  }
  for (const { path } of undone.kept) {
    complain(`${pathText(path)} was changed since it was added: it is left as it is`);
  }
  return undone.kept.length === 0 ? 0 : SOME_FAILED;
}

async function showDiff(before: string, after: string, file: string): Promise<void> {
  const { unifiedDiff } = await import("./containerd/diff.ts");
  print(unifiedDiff(before, after, file));
}

function tell({ warnings, imported }: Planned): void {
  for (const warning of warnings) complain(`warning: ${warning}`);
  for (const { section, path } of imported) {
    print(`${section.path.at(-1)} is in ${path}, which is imported\n`);
  }
}

/** Tells what stands in the way; the answer is the exit code. */
function tellDifferences({ differences, foreign }: Planned, { force }: ContainerdOptions): number {
  for (const { place, text } of foreign) {
    complain(`${place}: ${text}: this file is imported: change it there, or name it with --file`);
  }
  if (force === true) return foreign.length === 0 ? 0 : SOME_FAILED;
  for (const { place, text } of differences) complain(`${place}: ${text}`);
  if (differences.length > 0) {
    complain("cannot merge: sections are there already and differ: change them, or use --force");
  }
  return differences.length + foreign.length === 0 ? 0 : SOME_FAILED;
}
