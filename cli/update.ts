/**
 * `quasaur update`: changes the limits of containers while they run.
 *
 * @module
 */

import { Command } from "commander";
import { addAddress, forEach, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { parseCpus, parseMemory } from "./run_values.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
What is not named stays as it is. Prints each target as it was named; ends with 1 where one could
not be changed.

Examples:
  quasaur update --memory 512Mi web
  quasaur update --cpus 0.5 --pids 100 pod-1/worker pod-2/worker`;

/** CPUs are counted in thousandths on the wire. */
const MILLIS = 1000;

/** The options as commander gathers them. */
interface UpdateOptions {
  readonly cpus?: number;
  readonly memory?: number;
  readonly pids?: number;
  readonly quiet?: boolean;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function updateCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("update")
    .description("Change the limits of running containers.")
    .argument("<TARGETS...>", "containers, or sandboxes with one container")
    .option("--cpus <N>", "CPUs, such as 1.5", parseCpus)
    .option("-m, --memory <SIZE>", "memory, such as 256Mi", parseMemory)
    .option("--pids <N>", "processes and threads", parsePids)
    .option("-q, --quiet", "print nothing but errors");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (targets: string[], { cpus, memory, pids, quiet }: UpdateOptions) => {
      if (cpus === undefined && memory === undefined && pids === undefined) {
        throw new UsageError("Expected at least one of --cpus, --memory and --pids");
      }
      const resources = {
        cpuMillis: BigInt(Math.round((cpus ?? 0) * MILLIS)),
        memoryBytes: BigInt(memory ?? 0),
        pids: BigInt(pids ?? 0),
      };
      end(
        await withFleet(command, ports, (fleet) =>
          forEach(targets, ports, async (target) => {
            const found = await fleet.resolveContainer(target, "cannot change the limits of");
            await found.client.update({ target: found.container.id, resources });
            return quiet === true ? "" : target;
          })),
      );
    });
}

function parsePids(text: string): number {
  if (/^\d{1,7}$/.test(text) && Number(text) > 0) return Number(text);
  throw new UsageError(
    `Invalid --pids ${JSON.stringify(text)}: expected a whole number above 0`,
  );
}
