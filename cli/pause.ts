/**
 * `quasaur pause` and `quasaur resume`: stop containers from running without ending them, and let them
 * run again.
 *
 * @module
 */

import { Command } from "commander";
import { addAddress, forEach, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";

const PAUSE_EXAMPLES = `
What is paused keeps its memory and gets no time. A sandbox stands for all its containers. Prints
each target as it was named; ends with 1 where one could not be paused.

Examples:
  quasaur pause web
  quasaur pause pod-1/worker pod-2/worker`;

const RESUME_EXAMPLES = `
Prints each target as it was named; ends with 1 where one could not be resumed.

Examples:
  quasaur resume web
  quasaur resume pod-1/worker pod-2/worker`;

/** The options as commander gathers them. */
interface PauseOptions {
  readonly quiet?: boolean;
}

/**
 * Makes the command `pause`.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function pauseCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  return verb("pause", "Pause containers.", PAUSE_EXAMPLES, end, ports);
}

/**
 * Makes the command `resume`.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function resumeCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  return verb("resume", "Let paused containers run again.", RESUME_EXAMPLES, end, ports);
}

function verb(
  name: "pause" | "resume",
  description: string,
  examples: string,
  end: (code: number) => void,
  ports: ClientPorts,
): Command {
  const command = new Command(name)
    .description(description)
    .argument("<TARGETS...>", "containers or sandboxes, by id, name or the beginning of an id")
    .option("-q, --quiet", "print nothing but errors");
  return addAddress(command)
    .addHelpText("after", examples)
    .action(async (targets: string[], { quiet = false }: PauseOptions) => {
      end(
        await withFleet(command, ports, (fleet) =>
          forEach(targets, ports, async (target) => {
            const { client, sandbox, container } = await fleet.resolve(target);
            await client[name]({ target: container?.id ?? sandbox.id });
            return quiet ? "" : target;
          })),
      );
    });
}
