/**
 * `quasaur config`: checks the configuration of a sandboxer and prints what is in effect.
 *
 * @module
 */

import { Command } from "commander";
import { SandboxError } from "../mod.ts";
import { DEFAULT_CONFIG_FILE } from "../sandboxers/vmm/config/config.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import { complain, print } from "./terminal.ts";

const EXAMPLES = `
Prints every setting with where its value comes from. Ends with 1 where the configuration cannot be
used, after telling all that is wrong with it. Files that are missing on this host are told, too.

Examples:
  quasaur config vmm
  quasaur config vmm --config vmm.toml --set hypervisor.vcpus=2
  quasaur config vmm --sample > vmm.toml`;

/** The options as commander gathers them. */
interface ConfigOptions {
  readonly config?: string;
  readonly set?: readonly string[];
  readonly sample?: boolean;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 */
export function configCommand(end: (code: number) => void): Command {
  return new Command("config")
    .description("Check the configuration of a sandboxer and print it.")
    .helpCommand(false)
    .addCommand(
      new Command("vmm")
        .description("Check the configuration of the vmm sandboxer and print it.")
        .option("--config <FILE>", `default ${DEFAULT_CONFIG_FILE}, where that is there`)
        .option(
          "--set <KEY=VALUE>",
          "a setting that goes before the file's, as TOML; may be repeated",
          (text: string, before: readonly string[] = []) => [...before, text],
        )
        .option("--sample", "print a file with every key, its default and what it is for")
        .addHelpText("after", EXAMPLES)
        .action(async (options: ConfigOptions) => {
          end(await showVmmConfig(options));
        }),
    );
}

/** The answer is the exit code. */
async function showVmmConfig({ config, set = [], sample }: ConfigOptions): Promise<number> {
  // Loaded here: other commands have no use for it.
  const { printVmmConfig, readVmmConfig, sampleVmmConfig } = await import(
    "../sandboxers/vmm/config/load.ts"
  );
  const { missingFiles } = await import("../sandboxers/vmm/config/missing_files.ts");
  if (sample === true) {
    print(sampleVmmConfig());
    return 0;
  }
  try {
    const read = readVmmConfig({ file: config, set });
    for (const problem of read.problems) complain(problem);
    if (read.problems.length > 0) return SOME_FAILED;
    print(printVmmConfig(read));
    for (const missing of await missingFiles(read.values)) complain(`warning: ${missing}`);
    return 0;
  } catch (error) {
    complain(SandboxError.from(error).message);
    return SOME_FAILED;
  }
}
