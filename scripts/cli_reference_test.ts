import assert from "node:assert/strict";
import { buildProgram } from "../cli/program.ts";
import { CLI_PAGE, commandReference, withReference } from "./cli_reference.ts";

Deno.test("docs/cli.md has the help of every command as it is", async () => {
  const page = await Deno.readTextFile(CLI_PAGE);
  assert.ok(
    page === withReference(page),
    "docs/cli.md is old: write it anew: deno run -A scripts/cli_reference.ts",
  );
});

Deno.test("every command has help with examples", () => {
  const reference = commandReference();
  const program = buildProgram(() => undefined);
  for (const command of program.createHelp().visibleCommands(program)) {
    const name = command.name();
    // Those with commands of their own have the examples there; these two say it all.
    if (command.commands.length > 0 || name === "help" || name === "version") continue;
    const text = reference.split(`### quasaur ${name}\n`)[1]?.split("\n### ")[0] ?? "";
    assert.match(text, /Examples?:/, name);
  }
});

Deno.test("a page without a place for the reference is told of", () => {
  assert.throws(() => withReference("# A page"), /no "<!-- commands/);
});
