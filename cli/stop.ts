/**
 * `quasaur stop`: ends sandboxes, and gives what runs in them time to end by itself.
 *
 * @module
 */

import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Command } from "commander";
import { addAddress, forEach, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
Sends SIGTERM to the processes, and SIGKILL to those that have not ended after the time that -t
gives. Prints each sandbox that was stopped as it was named; ends with 1 where one could not be.
Kubernetes starts pods of its own again.

Examples:
  quasaur stop web
  quasaur stop -t 0 web db
  quasaur ps -q --filter kind=vmm | xargs -r quasaur stop`;

/** How long processes get unless something else is said, in seconds. */
const GRACE_S = 10;

/** The longest time that can be given, in seconds: a day. */
const GRACE_S_MAX = 86_400;

/** The options as commander gathers them. */
interface StopOptions {
  readonly quiet?: boolean;
  readonly time: number;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function stopCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("stop")
    .description("Stop sandboxes.")
    .argument("<TARGETS...>", "sandboxes, by id, name or the beginning of an id")
    .option("-q, --quiet", "print nothing but errors")
    .option(
      "-t, --time <SECONDS>",
      "how long processes may take to end after SIGTERM",
      parseSeconds,
      GRACE_S,
    );
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (targets: string[], { time, quiet = false }: StopOptions) => {
      const grace = durationFromMs(time * 1000);
      end(
        await withFleet(command, ports, (fleet) =>
          forEach(targets, ports, async (target) => {
            const { client, sandbox } = await fleet.resolve(target);
            await client.stop({ target: sandbox.id, grace });
            return quiet ? "" : target;
          })),
      );
    });
}

function parseSeconds(text: string): number {
  if (/^\d{1,5}(\.\d{1,3})?$/.test(text) && Number(text) <= GRACE_S_MAX) return Number(text);
  throw new UsageError(
    `Invalid --time ${JSON.stringify(text)}: expected seconds from 0 to ${GRACE_S_MAX}`,
  );
}
