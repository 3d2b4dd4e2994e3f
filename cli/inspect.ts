/**
 * `quasaur inspect`: everything that is known of sandboxes and containers, as JSON.
 *
 * @module
 */

import { Command } from "commander";
import type { Fleet } from "../sandboxers/client/fleet.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { addAddress, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { SOME_FAILED } from "./exit_codes.ts";

const EXAMPLES = `
Prints an array with an object for each target, in their order. Values of environment variables are
left out. Ends with 1 where one was not found; the others are printed all the same.

Examples:
  quasaur inspect web
  quasaur inspect web db | jq '.[].state'`;

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function inspectCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("inspect")
    .description("Print all that is known of sandboxes or containers, as JSON.")
    .argument("<TARGETS...>", "by id, name or the beginning of an id");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (targets: string[]) => {
      end(await withFleet(command, ports, (fleet) => inspect(fleet, targets, ports)));
    });
}

async function inspect(
  fleet: Fleet,
  targets: readonly string[],
  ports: ClientPorts,
): Promise<number> {
  const found: unknown[] = [];
  let code = 0;
  for (const target of targets) {
    try {
      const { client, sandbox, container } = await fleet.resolve(target);
      const { detailJson } = await client.get({ target: container?.id ?? sandbox.id });
      const detail: unknown = JSON.parse(detailJson);
      found.push(container === undefined ? detail : containerIn(detail, container.id) ?? detail);
    } catch (error) {
      ports.complain(SandboxError.from(error).message);
      code = SOME_FAILED;
    }
  }
  ports.print(`${JSON.stringify(found, null, 2)}\n`);
  return code;
}

/** What is said of a container in what is said of its sandbox. */
function containerIn(detail: unknown, id: string): unknown {
  if (typeof detail !== "object" || detail === null || !("containers" in detail)) return undefined;
  const { containers } = detail;
  if (!Array.isArray(containers)) return undefined;
  return containers.find((each: unknown) =>
    typeof each === "object" && each !== null && "id" in each && each.id === id
  );
}
