/**
 * The command line as a whole: its commands, its help, and how it ends.
 *
 * @module
 */

import { Command, CommanderError } from "commander";
import { SandboxError } from "../mod.ts";
import { configCommand } from "./config.ts";
import { codeOfError, USAGE } from "./exit_codes.ts";
import { imagesCommand } from "./images.ts";
import { runCommand } from "./run.ts";
import { complain, print, printError } from "./terminal.ts";
import { UsageError } from "./usage_error.ts";
import { VERSION, versionCommand } from "./version.ts";

/**
 * Runs the command line.
 *
 * @param args The arguments without the program.
 * @returns The exit code.
 */
export async function runProgram(args: readonly string[]): Promise<number> {
  let code = 0;
  const program = buildProgram((ended) => {
    code = ended;
  });
  try {
    await program.parseAsync([...args], { from: "user" });
    return code;
  } catch (error) {
    // Commander has said already what it found; help and version are no failures.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
    const { message } = error instanceof UsageError ? error : SandboxError.from(error);
    complain(message);
    return codeOfError(error);
  }
}

function buildProgram(end: (code: number) => void): Command {
  const program = new Command("quasaur")
    .description("Runs programs in sandboxes.")
    .version(`quasaur ${VERSION}`, "--version", "print the version")
    .helpCommand("help [command]", "Print the help of a command.")
    .enablePositionalOptions()
    .addHelpText("after", "\nExample:\n  quasaur run wasm hello.wasm -- world")
    .addCommand(runCommand(end))
    .addCommand(imagesCommand(end))
    .addCommand(configCommand(end))
    .addCommand(versionCommand());
  configure(program);
  return program;
}

/** Makes a command and those below it throw, and speak like the rest of the program. */
function configure(command: Command): void {
  command
    .exitOverride()
    .helpOption("-h, --help", "print help")
    .configureHelp({ subcommandTerm: (subcommand) => subcommand.name() })
    .configureOutput({
      writeOut: print,
      writeErr: tellError,
    });
  for (const subcommand of command.commands) configure(subcommand);
}

/** What commander has to say: an error as one line of ours, help as it is. */
function tellError(text: string): void {
  const error = /^error: ([^]*)$/.exec(text)?.[1];
  if (error === undefined) printError(text);
  else complain(error.trim().replaceAll("\n", " "));
}
