/**
 * `quasaur wait`: waits until containers have ended, and says how.
 *
 * @module
 */

import { Command } from "commander";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { addAddress, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { codeOfWireExit, FAILED } from "./exit_codes.ts";
import { exitJson } from "./show/sandboxes.ts";

const EXAMPLES = `
Prints the exit status of each container, in their order, and ends with that of the last one; with
125 where one could not be waited for.

Examples:
  quasaur wait build
  quasaur wait --quiet build && echo built`;

/** The options as commander gathers them. */
interface WaitOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function waitCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("wait")
    .description("Wait until containers have ended.")
    .argument("<TARGETS...>", "containers, or sandboxes with one container")
    .option("--json", "print JSON: a line for each container")
    .option("-q, --quiet", "print nothing but errors");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (targets: string[], { json = false, quiet = false }: WaitOptions) => {
      end(
        await withFleet(command, ports, async (fleet) => {
          // Found first: what is removed once it has ended cannot be found later.
          const waits = await Promise.allSettled(targets.map(async (target) => {
            const { client, container } = await fleet.resolveContainer(target, "cannot wait for");
            return { id: container.id, exit: await client.wait({ target: container.id }) };
          }));
          let code = 0;
          for (const wait of waits) {
            if (wait.status === "rejected") {
              ports.complain(SandboxError.from(wait.reason).message);
              code = FAILED;
              continue;
            }
            const { id, exit } = wait.value;
            const status = codeOfWireExit(exit, ports);
            if (code !== FAILED) code = status;
            if (json) ports.print(`${JSON.stringify({ id, exit: exitJson(exit) })}\n`);
            else if (!quiet) ports.print(`${status}\n`);
          }
          return code;
        }, FAILED),
      );
    });
}
