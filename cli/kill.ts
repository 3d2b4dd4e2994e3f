/**
 * `quasaur kill`: sends a signal to containers.
 *
 * @module
 */

import { Command, Option } from "commander";
import type { Fleet } from "../sandboxers/client/fleet.ts";
import { addAddress, forEach, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { parseSignal } from "./signal_names.ts";

const EXAMPLES = `
Sends the signal to the first process of a container; a sandbox stands for all its containers.
Prints each target as it was named; ends with 1 where one could not be signalled.

Examples:
  quasaur kill web
  quasaur kill -s HUP pod-1/nginx
  quasaur kill --all -s 9 web db`;

/** The options as commander gathers them. */
interface KillOptions {
  readonly all?: boolean;
  readonly quiet?: boolean;
  readonly signal: number;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function killCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("kill")
    .description("Send a signal to containers.")
    .argument("<TARGETS...>", "containers or sandboxes, by id, name or the beginning of an id")
    .option("-a, --all", "to all processes, not only the first")
    .option("-q, --quiet", "print nothing but errors")
    .addOption(
      new Option("-s, --signal <SIGNAL>", "name or number")
        .argParser(parseSignal)
        .default(parseSignal("KILL"), "KILL"),
    );
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (targets: string[], options: KillOptions) => {
      end(
        await withFleet(command, ports, (fleet) =>
          forEach(targets, ports, async (target) => {
            await killOne(fleet, target, options);
            return options.quiet === true ? "" : target;
          })),
      );
    });
}

/** Signals a container, or all of a sandbox that have not ended. */
async function killOne(
  fleet: Fleet,
  target: string,
  { all = false, signal }: KillOptions,
): Promise<void> {
  const { client, sandbox, container } = await fleet.resolve(target);
  const running = sandbox.containers.filter(({ exit }) => exit === undefined);
  const chosen = container !== undefined ? [container] : running;
  if (chosen.length === 0) {
    // The same error as for any container that has none to signal.
    const only = await fleet.resolveContainer(target, "cannot kill");
    chosen.push(only.container);
  }
  for (const { id } of chosen) await client.kill({ target: id, signal, all });
}
