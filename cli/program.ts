/**
 * The command line as a whole: its commands, its help, and how it ends.
 *
 * @module
 */

import { Command, CommanderError } from "commander";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { attachCommand } from "./attach.ts";
import { addAddress } from "./client/command.ts";
import { completeCommand, completionCommand } from "./completion.ts";
import { configCommand } from "./config.ts";
import { cpCommand } from "./cp.ts";
import { doctorCommand } from "./doctor.ts";
import { eventsCommand } from "./events.ts";
import { execCommand } from "./exec.ts";
import { containerdCommand } from "./containerd.ts";
import { codeOfError, USAGE } from "./exit_codes.ts";
import { imagesCommand } from "./images.ts";
import { inspectCommand } from "./inspect.ts";
import { installCommand, uninstallCommand } from "./install.ts";
import { killCommand } from "./kill.ts";
import { logsCommand } from "./logs.ts";
import { pauseCommand, resumeCommand } from "./pause.ts";
import { psCommand } from "./ps.ts";
import { rmCommand } from "./rm.ts";
import { runCommand } from "./run.ts";
import { forkCommand, restoreCommand, snapshotCommand } from "./snapshot.ts";
import { statsCommand } from "./stats.ts";
import { stopCommand } from "./stop.ts";
import { complain, print, printError } from "./terminal.ts";
import { topCommand } from "./top/command.ts";
import { updateCommand } from "./update.ts";
import { UsageError } from "./usage_error.ts";
import { VERSION, versionCommand } from "./version.ts";
import { waitCommand } from "./wait.ts";

const EXAMPLES = `
Examples:
  quasaur run wasm hello.wasm -- world
  quasaur ps
  quasaur exec -it web sh
  quasaur doctor`;

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

/**
 * Makes the command line.
 *
 * @param end Receives the exit code of whatever is run.
 */
export function buildProgram(end: (code: number) => void): Command {
  const program = addAddress(new Command("quasaur"))
    .description("Runs programs in sandboxes, and looks after those of all sandboxers.")
    .version(`quasaur ${VERSION}`, "--version", "print the version")
    .helpCommand(false)
    .enablePositionalOptions()
    .addHelpText("after", EXAMPLES);
  program.commandsGroup("Sandboxes:")
    .addCommand(runCommand(end))
    .addCommand(psCommand(end))
    .addCommand(execCommand(end))
    .addCommand(attachCommand(end))
    .addCommand(logsCommand(end))
    .addCommand(stopCommand(end))
    .addCommand(killCommand(end))
    .addCommand(rmCommand(end))
    .addCommand(pauseCommand(end))
    .addCommand(resumeCommand(end))
    .addCommand(updateCommand(end))
    .addCommand(waitCommand(end));
  program.commandsGroup("Insight:")
    .addCommand(statsCommand(end))
    .addCommand(topCommand(end))
    .addCommand(eventsCommand(end))
    .addCommand(inspectCommand(end));
  program.commandsGroup("Memory and files:")
    .addCommand(cpCommand(end))
    .addCommand(snapshotCommand(end))
    .addCommand(restoreCommand(end))
    .addCommand(forkCommand(end))
    .addCommand(imagesCommand(end));
  program.commandsGroup("This host:")
    .addCommand(doctorCommand(end))
    .addCommand(configCommand(end))
    .addCommand(containerdCommand(end))
    .addCommand(installCommand(end))
    .addCommand(uninstallCommand(end))
    .addCommand(completionCommand())
    .addCommand(versionCommand());
  program.addCommand(helpCommand(program))
    .addCommand(completeCommand(program), { hidden: true });
  configure(program);
  return program;
}

/** `quasaur help run vmm`, as other tools have it beside `quasaur run vmm --help`. */
function helpCommand(program: Command): Command {
  return new Command("help")
    .description("Print the help of a command.")
    .helpGroup("Commands:")
    .argument("[command...]", "the command, such as: run vmm")
    .action((words: string[]) => {
      let found = program;
      for (const [at, word] of words.entries()) {
        const next = found.commands.find((each) =>
          each.name() === word || each.aliases().includes(word)
        );
        if (next === undefined) {
          throw new UsageError(`unknown command '${words.slice(0, at + 1).join(" ")}'`);
        }
        found = next;
      }
      found.help();
    });
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
