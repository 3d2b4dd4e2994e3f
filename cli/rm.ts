/**
 * `quasaur rm`: deletes sandboxes.
 *
 * @module
 */

import { Command } from "commander";
import { addAddress, forEach, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";

const EXAMPLES = `
Deletes sandboxes that are over, with their logs and files; with --force also those that run, which
are killed first. Prints each sandbox as it was named; ends with 1 where one could not be deleted.

Examples:
  quasaur rm web
  quasaur rm -f web db
  quasaur ps -aq --filter state=stopped | xargs -r quasaur rm`;

/** The options as commander gathers them. */
interface RmOptions {
  readonly force?: boolean;
  readonly quiet?: boolean;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function rmCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("rm")
    .description("Delete sandboxes that are over.")
    .argument("<TARGETS...>", "sandboxes, by id, name or the beginning of an id")
    .option("-f, --force", "also those that run: they are killed first")
    .option("-q, --quiet", "print nothing but errors");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (targets: string[], { force = false, quiet = false }: RmOptions) => {
      end(
        await withFleet(command, ports, (fleet) =>
          forEach(targets, ports, async (target) => {
            const { client, sandbox } = await fleet.resolve(target);
            await client.remove({ target: sandbox.id, force });
            return quiet ? "" : target;
          })),
      );
    });
}
