/**
 * Writes the reference of the command line into docs/cli.md, from the definitions of the commands, so
 * that it says what the commands do.
 *
 * @module
 */

import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { buildProgram } from "../cli/program.ts";

/** The page that has the reference. */
export const CLI_PAGE: string = fileURLToPath(new URL("../docs/cli.md", import.meta.url));

/** What is before and behind the reference. */
const BEGIN = "<!-- commands: made by scripts/cli_reference.ts -->";
const END = "<!-- end of commands -->";

/** How wide help is, in characters: as on a terminal of the usual size. */
const HELP_WIDTH = 80;

/** The help of every command, those below another after it, in Markdown as `deno fmt` has it. */
export function commandReference(): string {
  return sections(buildProgram(() => undefined), "quasaur").join("\n\n");
}

function sections(command: Command, name: string): string[] {
  const own = `### ${name}\n\n\`\`\`text\n${helpOf(command)}\n\`\`\``;
  const below = command.createHelp().visibleCommands(command)
    .filter((verb) => command.commands.includes(verb))
    .flatMap((verb) => sections(verb, `${name} ${verb.name()}`));
  return [own, ...below];
}

/** What `--help` prints. */
function helpOf(command: Command): string {
  let text = "";
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
    getOutHelpWidth: () => HELP_WIDTH,
  }).outputHelp();
  return text.trimEnd();
}

/**
 * A page with the reference as it is now.
 *
 * @param page The page.
 * @throws {Error} Where the page has no place for it.
 */
export function withReference(page: string): string {
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  if (before === undefined || after === undefined) {
    throw new Error(`Cannot place the reference of commands: the page has no "${BEGIN}"`);
  }
  return `${before}${BEGIN}\n\n${commandReference()}\n\n${END}${after}`;
}

if (import.meta.main) {
  await Deno.writeTextFile(CLI_PAGE, withReference(await Deno.readTextFile(CLI_PAGE)));
}
