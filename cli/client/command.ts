/**
 * What all commands have in common that talk to sandboxers: where these are, several targets at once,
 * and how a failure ends.
 *
 * @module
 */

import type { Command } from "commander";
import type { Fleet } from "../../sandboxers/client/fleet.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { SOME_FAILED } from "../exit_codes.ts";
import { UsageError } from "../usage_error.ts";
import type { ClientPorts } from "./ports.ts";

/** How the option that names sockets is called. */
const ADDRESS_FLAGS = "--address <PATH>";
const ADDRESS_HELP = "the socket of a sandboxer; may be repeated; default: all that run";

/** Where sandboxers listen, for messages; see sandboxers/client/find.ts. */
const DEFAULT_SOCKETS = "/run/quasaur/{wasm,vmm,quark}.sock";

/** How many targets are worked on at a time. */
const AT_A_TIME = 16;

/** Adds to an option that may be repeated. */
export function append(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** Gives a command the option `--address`. */
export function addAddress(command: Command): Command {
  return command.option(ADDRESS_FLAGS, ADDRESS_HELP, append);
}

/** The sockets that were named, before the verb or behind it. */
export function addressesOf(command: Command): readonly string[] {
  const named: string[] = [];
  for (let at: Command | null = command; at !== null; at = at.parent) {
    const { address } = at.opts<{ readonly address?: readonly string[] }>();
    named.unshift(...(address ?? []));
  }
  return named;
}

/**
 * Does something with the sandboxers, and tells what went wrong.
 *
 * @param command The command: says where they are.
 * @param ports What it works with.
 * @param work The work; answers the exit code.
 * @param failureCode The exit code for anything that was thrown.
 * @returns The exit code.
 * @throws {UsageError} As the work.
 */
export async function withFleet(
  command: Command,
  ports: ClientPorts,
  work: (fleet: Fleet) => Promise<number>,
  failureCode: number = SOME_FAILED,
): Promise<number> {
  try {
    using fleet = await ports.open(addressesOf(command));
    checkNotEmpty(fleet);
    return await work(fleet);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    ports.complain(SandboxError.from(error).message);
    return failureCode;
  }
}

/** Refuses to go on without a sandboxer. */
function checkNotEmpty(fleet: Fleet): void {
  if (fleet.clients.length > 0) return;
  const [problem] = fleet.problems;
  throw problem ?? new SandboxError(
    "Unavailable",
    `no sandboxer is running: nobody listens at ${DEFAULT_SOCKETS}: start one, such as with ` +
      "`systemctl start quasaur-wasm`, or `deno task wasm` in the sources, or name its socket " +
      "with --address; `quasaur doctor` says what this host can run",
  );
}

/**
 * Does the same with several targets, some at a time. Each is named on standard output once it is
 * done, and told of on standard error where it failed.
 *
 * @param targets What was named on the command line.
 * @param ports What it works with.
 * @param work The work for one; answers what is printed, nothing where that is empty.
 * @returns The exit code.
 */
export async function forEach(
  targets: readonly string[],
  ports: ClientPorts,
  work: (target: string) => Promise<string>,
): Promise<number> {
  const waiting = [...new Set(targets)];
  let code = 0;
  const worker = async (): Promise<void> => {
    for (let target = waiting.shift(); target !== undefined; target = waiting.shift()) {
      try {
        const said = await work(target);
        if (said !== "") ports.print(`${said}\n`);
      } catch (error) {
        ports.complain(SandboxError.from(error).message);
        code = SOME_FAILED;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_A_TIME, waiting.length) }, worker));
  return code;
}
