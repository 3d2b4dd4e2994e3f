/**
 * `quasaur completion`: what a shell needs to complete this command, and the hidden `__complete` that
 * the shell asks.
 *
 * @module
 */

import { Command } from "commander";
import { addressesOf } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { knownValues, SHELLS } from "./completion/known_values.ts";
import { COMPLETION_SCRIPTS } from "./completion/scripts.ts";
import { FILES, nextWords } from "./completion/words.ts";
import { printable } from "./show/printable.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
Completes verbs, options, their values, and the names of what runs.

Examples:
  source <(quasaur completion bash)                 # in ~/.bashrc
  source <(quasaur completion zsh)                  # in ~/.zshrc, after compinit
  quasaur completion fish | source                  # in ~/.config/fish/config.fish
  quasaur completion bash > /etc/bash_completion.d/quasaur`;

/**
 * Makes the command `completion`.
 *
 * @param ports What it works with.
 */
export function completionCommand(ports: ClientPorts = CLIENT_PORTS): Command {
  return new Command("completion")
    .description("Print what a shell needs to complete this command.")
    .argument("<SHELL>", SHELLS.join(", "))
    .addHelpText("after", EXAMPLES)
    .action((text: string) => {
      const shell = SHELLS.find((shell) => shell === text);
      if (shell === undefined) {
        throw new UsageError(
          `Invalid SHELL ${JSON.stringify(text)}: expected one of ${SHELLS.join(", ")}`,
        );
      }
      ports.print(COMPLETION_SCRIPTS[shell]);
    });
}

/**
 * Makes the hidden command `__complete`, which prints what can come next, a line each: the word, a
 * tab, what it is for. A line `:files` alone stands for a path.
 *
 * @param program The commands.
 * @param ports What it works with.
 */
export function completeCommand(program: Command, ports: ClientPorts = CLIENT_PORTS): Command {
  const command = new Command("__complete")
    .argument("[WORDS...]", "the words so far; the last is being typed")
    .allowUnknownOption()
    .passThroughOptions()
    .action(async (words: string[]) => {
      const verbs = program.commands.map((verb) => verb.name());
      const addresses = [...addressesOf(command), ...addressesIn(words)];
      const known = knownValues(() => ports.open(addresses), verbs);
      // A prompt is no place for errors: what cannot be found is not there.
      const next = await nextWords(program, words, known).catch(() => []);
      if (next === FILES) return ports.print(`${FILES}\n`);
      ports.print(
        next.map(({ word, about }) => `${word}\t${printable(about.split("\n")[0] ?? "")}\n`)
          .join(""),
      );
    });
  return command;
}

/** The sockets that a line names which is being completed. */
function addressesIn(words: readonly string[]): string[] {
  return words.slice(0, -1).flatMap((word, at) => {
    if (word.startsWith("--address=")) return [word.slice("--address=".length)];
    return words[at - 1] === "--address" ? [word] : [];
  });
}
