/**
 * `quasaur config`: checks the configuration of a sandboxer and prints what is in effect.
 *
 * @module
 */

import { Command } from "commander";
import { SandboxError } from "../mod.ts";
import type { CommonConfig, KindConfig } from "../sandboxers/config/kind_config.ts";
import { DEFAULT_CONFIG_FILE as QUARK_FILE } from "../sandboxers/quark/config/config.ts";
import { DEFAULT_CONFIG_FILE as VMM_FILE } from "../sandboxers/vmm/config/config.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import { complain, print } from "./terminal.ts";

/** The options as commander gathers them. */
interface ConfigOptions {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly sample?: boolean;
}

/** A configuration, checked. */
interface Checked {
  /** What is wrong with it. */
  readonly problems: readonly string[];
  /** The configuration as TOML. */
  readonly text: string;
  /** Files that it names and that are not there. */
  missing(): Promise<readonly string[]>;
}

/** A kind that has a configuration. Loaded when it is asked for: other commands have no use for it. */
interface ConfiguredKind {
  readonly kind: string;
  readonly file: string;
  /** A setting for the examples. */
  readonly example: string;
  sample(): Promise<string>;
  check(options: { readonly file: string | undefined; readonly set: readonly string[] }): Promise<
    Checked
  >;
}

const VMM: ConfiguredKind = {
  kind: "vmm",
  file: VMM_FILE,
  example: "hypervisor.vcpus=2",
  sample: async () => (await import("../sandboxers/vmm/config/load.ts")).VMM_CONFIG.sample(),
  check: async (options) => {
    const { VMM_CONFIG } = await import("../sandboxers/vmm/config/load.ts");
    const { missingFiles } = await import("../sandboxers/vmm/config/missing_files.ts");
    return checked(VMM_CONFIG, options, missingFiles);
  },
};

const QUARK: ConfiguredKind = {
  kind: "quark",
  file: QUARK_FILE,
  example: "gvisor.platform=ptrace",
  sample: async () => (await import("../sandboxers/quark/config/load.ts")).QUARK_CONFIG.sample(),
  check: async (options) => {
    const { QUARK_CONFIG } = await import("../sandboxers/quark/config/load.ts");
    const { missingFiles } = await import("../sandboxers/quark/config/missing_files.ts");
    return checked(QUARK_CONFIG, options, missingFiles);
  },
};

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 */
export function configCommand(end: (code: number) => void): Command {
  const command = new Command("config")
    .description("Check the configuration of a sandboxer and print it.")
    .helpCommand(false);
  for (const kind of [VMM, QUARK]) command.addCommand(kindCommand(kind, end));
  return command;
}

function kindCommand(configured: ConfiguredKind, end: (code: number) => void): Command {
  const { kind, file } = configured;
  return new Command(kind)
    .description(`Check the configuration of the ${kind} sandboxer and print it.`)
    .option("--config <FILE>", `default ${file}, where that is there`)
    .option(
      "--set <KEY=VALUE>",
      "a setting that goes before the file's, as TOML; may be repeated",
      (text: string, before: readonly string[] = []) => [...before, text],
    )
    .option("--sample", "print a file with every key, its default and what it is for")
    .addHelpText("after", examples(configured))
    .action(async (options: ConfigOptions) => {
      end(await showConfig(configured, options));
    });
}

function examples({ kind, example }: ConfiguredKind): string {
  return `
Prints every setting with where its value comes from. Ends with 1 where the configuration cannot be
used, after telling all that is wrong with it. Files that are missing on this host are told, too.

Examples:
  quasaur config ${kind}
  quasaur config ${kind} --config ${kind}.toml --set ${example}
  quasaur config ${kind} --sample > ${kind}.toml`;
}

function checked<T extends CommonConfig>(
  config: KindConfig<T>,
  options: Parameters<ConfiguredKind["check"]>[0],
  missingFiles: (values: T) => Promise<readonly string[]>,
): Checked {
  const read = config.read(options);
  return {
    problems: read.problems,
    text: config.print(read),
    missing: () => missingFiles(read.values),
  };
}

/** The answer is the exit code. */
async function showConfig(
  configured: ConfiguredKind,
  { config, set = [], sample }: ConfigOptions,
): Promise<number> {
  if (sample === true) {
    print(await configured.sample());
    return 0;
  }
  try {
    const { problems, text, missing } = await configured.check({ file: config, set });
    for (const problem of problems) complain(problem);
    if (problems.length > 0) return SOME_FAILED;
    print(text);
    for (const file of await missing()) complain(`warning: ${file}`);
    return 0;
  } catch (error) {
    complain(SandboxError.from(error).message);
    return SOME_FAILED;
  }
}
