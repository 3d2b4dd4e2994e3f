/**
 * `quasaur install` and `quasaur uninstall`: put a bundle's files where a machine has them, and take
 * exactly those away again.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import type { InstallPlan } from "./install/install.ts";
import { SANDBOXER_KINDS, type SandboxerKind } from "./install/layout.ts";
import type { Manifest } from "./install/manifest.ts";
import { complain, print } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";

/** The options of both as commander gathers them. */
interface Options {
  readonly prefix: string;
  readonly dryRun?: boolean;
  readonly now?: boolean;
}

/** The options of `install`. */
interface InstallOptions extends Options {
  readonly from?: string;
  readonly kind?: readonly string[];
  readonly containerd?: boolean;
  readonly force?: boolean;
}

/** containerd's configuration, below the prefix. */
const CONTAINERD_CONFIG = "/etc/containerd/config.toml";

/** Where the bundle is: around this file where it is in one, or where the task makes it. */
const BUNDLE: string = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "../build/bundle" : ".", import.meta.url),
).replace(/\/$/, "");

const INSTALL_HELP = `
Puts programs into /usr/lib/quasaur, the command and containerd's stub shims into /usr/bin, units of
systemd into /usr/lib/systemd/system and configuration into /etc, and writes down what it put where
in /var/lib/quasaur/install.json. Files of others are not touched, and configuration that was changed
is kept. Run again, it does what is missing; with a newer bundle, it upgrades.

Examples:
  quasaur install --dry-run
  quasaur install --containerd --now
  quasaur install --kind wasm --prefix /tmp/image`;

const UNINSTALL_HELP = `
Takes away what install put in place. Files that were changed since are kept, and named. What
sandboxers keep (/run/quasaur, /var/cache/quasaur) stays: pods may still use it.

Examples:
  quasaur uninstall --dry-run
  quasaur uninstall --now`;

/**
 * Makes `install`.
 *
 * @param end Receives the exit code.
 */
export function installCommand(end: (code: number) => void): Command {
  return withCommonOptions(
    new Command("install")
      .description("Install the sandboxers and this command on this machine.")
      .option(
        "--kind <KIND>",
        `${SANDBOXER_KINDS.join(", ")}; may be repeated (default: all)`,
        (name: string, before: readonly string[] = []) => [...before, name],
      )
      .option(
        "--from <DIR>",
        "the bundle, as `deno task bundle` makes it (default: this one, or build/bundle)",
      )
      .option("--containerd", `merge what is needed into ${CONTAINERD_CONFIG}`)
      .option("--force", "replace files of others"),
    "enable and start the services",
  )
    .addHelpText("after", INSTALL_HELP)
    .action(async (options: InstallOptions) => end(await toldOnFailure(() => install(options))));
}

/**
 * Makes `uninstall`.
 *
 * @param end Receives the exit code.
 */
export function uninstallCommand(end: (code: number) => void): Command {
  return withCommonOptions(
    new Command("uninstall").description("Take away what `quasaur install` put in place."),
    "stop and disable the services first",
  )
    .addHelpText("after", UNINSTALL_HELP)
    .action(async (options: Options) => end(await toldOnFailure(() => uninstall(options))));
}

function withCommonOptions(command: Command, now: string): Command {
  return command
    .option("--prefix <DIR>", "the root of the machine or image that it is for", "/")
    .option("--dry-run", "say what would be done, and do nothing")
    .option("--now", now);
}

async function toldOnFailure(action: () => Promise<number>): Promise<number> {
  try {
    return await action();
  } catch (error) {
    if (error instanceof UsageError) throw error;
    complain(SandboxError.from(error).message);
    return SOME_FAILED;
  }
}

/** The answer is the exit code. */
async function install(options: InstallOptions): Promise<number> {
  const prefix = readPrefix(options);
  const { install, planInstall } = await import("./install/install.ts");
  const plan = await planInstall({
    bundle: options.from ?? BUNDLE,
    prefix,
    kinds: readKinds(options.kind ?? []),
    force: options.force === true,
  });
  tellPlan(plan, options.dryRun === true);
  let code = 0;
  if (options.dryRun !== true) {
    for (const path of await install(plan, options.containerd === true)) {
      complain(`${prefix}${path} was changed since it was installed: it is left as it is`);
    }
  }
  if (options.containerd === true) code = await mergeContainerd(plan, options.dryRun === true);
  const { startCommands } = await import("./install/services.ts");
  const units = plan.options.kinds.map(unitOf);
  const commands = startCommands(units, options.containerd === true);
  if (code === 0) await runOrTell(commands, options, prefix);
  return code;
}

function readPrefix({ prefix, now }: Options): string {
  if (!prefix.startsWith("/") || prefix.includes("\0") || prefix.split("/").includes("..")) {
    throw new UsageError(
      `invalid --prefix ${JSON.stringify(prefix)}: expected an absolute path without ".."`,
    );
  }
  const text = prefix.replace(/\/+$/, "");
  if (now === true && text !== "") {
    throw new UsageError("--now is for this machine: leave --prefix or --now out");
  }
  return text;
}

function readKinds(names: readonly string[]): readonly SandboxerKind[] {
  if (names.length === 0) return SANDBOXER_KINDS;
  return [...new Set(names)].map((name) => {
    const kind = SANDBOXER_KINDS.find((candidate) => candidate === name);
    if (kind !== undefined) return kind;
    throw new UsageError(
      `invalid --kind ${JSON.stringify(name)}: expected one of ${SANDBOXER_KINDS.join(", ")}`,
    );
  });
}

function unitOf(kind: string): string {
  return `quasaur-${kind}.service`;
}

function tellPlan({ options, version, placements, obsolete, before }: InstallPlan, isDry: boolean) {
  const { prefix } = options;
  const count = { put: 0, same: 0 };
  for (const { item, action } of placements) {
    if (action === "put" || action === "same") count[action] += 1;
    if (action === "put" && isDry) print(`put ${prefix}${item.path}\n`);
    if (action === "keep") {
      complain(`${prefix}${item.path} was changed by somebody: it is left as it is`);
    }
    if (action === "foreign") complain(`${prefix}${item.path} was somebody else's: replaced`);
  }
  for (const { path } of obsolete) if (isDry) print(`remove ${prefix}${path}\n`);
  const from = before === undefined || before.version === version ? "" : ` over ${before.version}`;
  const done = count.put === 0
    ? "nothing to put, all files are in place"
    : `${count.put} ${isDry ? "to put" : "put"}, ${count.same} there already`;
  print(`quasaur ${version}${from} for ${options.kinds.join(", ")}: ${done}\n`);
}

/** The answer is the exit code. */
async function mergeContainerd({ options }: InstallPlan, isDry: boolean): Promise<number> {
  const { configureContainerd } = await import("./containerd.ts");
  const file = `${options.prefix}${CONTAINERD_CONFIG}`;
  // containerd on this machine says nothing about that of another.
  return await configureContainerd({
    file,
    kind: options.kinds,
    runDir: "/run/quasaur",
    apply: true,
    dryRun: isDry,
    containerd: "containerd",
    check: options.prefix === "",
  });
}

/** Has systemd do it where that is asked for and it runs; otherwise tells what remains to be done. */
async function runOrTell(
  commands: readonly (readonly string[])[],
  { now, dryRun }: Options,
  prefix: string,
): Promise<void> {
  const { isSystemdRunning, runServiceCommand } = await import("./install/services.ts");
  if (prefix !== "") return;
  const isDone = now === true && dryRun !== true && await isSystemdRunning();
  if (now === true && dryRun !== true && !isDone) {
    complain("systemd does not run here: start the sandboxers by what starts services here");
    return;
  }
  for (const command of commands) {
    if (isDone) await runServiceCommand(command);
    print(`${isDone ? "ran" : "next:"} ${command.join(" ")}\n`);
  }
}

/** The answer is the exit code. */
async function uninstall(options: Options): Promise<number> {
  const prefix = readPrefix(options);
  const { MANIFEST_PATH, readManifest } = await import("./install/manifest.ts");
  const manifest = await readManifest(prefix);
  if (manifest === undefined) {
    print(`nothing to do: there is no ${prefix}${MANIFEST_PATH}\n`);
    return 0;
  }
  const { stopCommands } = await import("./install/services.ts");
  await runOrTell(stopCommands(manifest.kinds.map(unitOf)), options, prefix);
  if (options.dryRun === true) {
    for (const { path, type } of manifest.entries) {
      if (type !== "directory") print(`remove ${prefix}${path}\n`);
    }
    return 0;
  }
  return await takeAway(manifest, prefix);
}

/** The answer is the exit code. */
async function takeAway(manifest: Manifest, prefix: string): Promise<number> {
  let code = 0;
  if (manifest.containerd) {
    const { undoContainerd } = await import("./containerd.ts");
    code = await undoContainerd(`${prefix}${CONTAINERD_CONFIG}`, false);
  }
  const { uninstall } = await import("./install/install.ts");
  const changed = await uninstall(manifest, prefix);
  for (const path of changed) {
    complain(`${prefix}${path} was changed since it was installed: it is left as it is`);
  }
  const count = manifest.entries.filter(({ type }) => type !== "directory").length;
  print(`removed ${count - changed.length} files of quasaur ${manifest.version}\n`);
  return changed.length === 0 ? code : SOME_FAILED;
}
