/**
 * `quasaur snapshot`, `quasaur restore` and `quasaur fork`: sandboxes with their memory, saved, made
 * again and doubled, where the kind can.
 *
 * @module
 */

import { resolve } from "node:path";
import { Command } from "commander";
import type { Fleet, FleetInfo } from "../sandboxers/client/fleet.ts";
import type { ManagementClient } from "../sandboxers/client/management_client.ts";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { addAddress, append, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { UsageError } from "./usage_error.ts";

const SNAPSHOT_EXAMPLES = `
The sandbox goes on. DIRECTORY must not be there yet, and must be where the sandboxer may write:
below its state directory or its cache. Ends with 1 where it cannot be saved.

Examples:
  quasaur snapshot warm /var/cache/quasaur/vmm/snapshots/warm`;

const RESTORE_EXAMPLES = `
Prints the id of the new sandbox, which goes on where the saved one was. Ends with 1 where it cannot
be made.

Examples:
  quasaur restore /var/cache/quasaur/vmm/snapshots/warm
  quasaur restore --name copy-1 /var/cache/quasaur/vmm/snapshots/warm`;

const FORK_EXAMPLES = `
Prints the id of the second sandbox, which goes on where the first one is. Ends with 1 where it
cannot be made.

Examples:
  quasaur fork warm
  quasaur fork --name try-1 warm`;

/** The options of restore and fork as commander gathers them. */
interface NewOptions {
  readonly json?: boolean;
  readonly kind?: string;
  readonly label?: readonly string[];
  readonly name?: string;
}

/**
 * Makes the command `snapshot`.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function snapshotCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("snapshot")
    .description("Save a running sandbox with its memory.")
    .argument("<TARGET>", "the sandbox, by id, name or the beginning of an id")
    .argument("<DIRECTORY>", "where it is saved; made by this")
    .option("-q, --quiet", "print nothing but errors");
  return addAddress(command)
    .addHelpText("after", SNAPSHOT_EXAMPLES)
    .action(async (target: string, path: string, { quiet = false }: { quiet?: boolean }) => {
      const directory = resolve(path);
      end(
        await withFleet(command, ports, async (fleet) => {
          const { client, sandbox } = await fleet.resolve(target);
          await client.snapshot({ target: sandbox.id, directory });
          if (!quiet) ports.print(`${directory}\n`);
          return 0;
        }),
      );
    });
}

/**
 * Makes the command `restore`.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function restoreCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("restore")
    .description("Make a sandbox of a saved one.")
    .argument("<DIRECTORY>", "where it was saved")
    .option("--kind <KIND>", "the kind that saved it; default: whichever can");
  return addAddress(addNewOptions(command))
    .addHelpText("after", RESTORE_EXAMPLES)
    .action(async (path: string, options: NewOptions) => {
      const labels = labelsOf(options.label ?? []);
      const directory = resolve(path);
      end(
        await withFleet(command, ports, async (fleet) => {
          const able = await ableSandboxers(fleet, options.kind);
          const source = { case: "directory", value: directory } as const;
          const made = await restoreWith(able, { source, name: options.name ?? "", labels });
          tell(made, options, ports);
          return 0;
        }),
      );
    });
}

/**
 * Makes the command `fork`.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function forkCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("fork")
    .description("Make a second sandbox of a running one, with its memory.")
    .argument("<TARGET>", "the sandbox, by id, name or the beginning of an id");
  return addAddress(addNewOptions(command))
    .addHelpText("after", FORK_EXAMPLES)
    .action(async (target: string, options: NewOptions) => {
      const labels = labelsOf(options.label ?? []);
      end(
        await withFleet(command, ports, async (fleet) => {
          const { client, sandbox } = await fleet.resolve(target);
          const source = { case: "target", value: sandbox.id } as const;
          const made = await client.restore({ source, name: options.name ?? "", labels });
          tell(made, options, ports);
          return 0;
        }),
      );
    });
}

function addNewOptions(command: Command): Command {
  return command
    .option("--json", "print JSON: ids and name")
    .option("-l, --label <KEY=VALUE>", "a label of the new one; may be repeated", append)
    .option("--name <NAME>", "its name; default: one that is made up");
}

function labelsOf(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(texts.map((text) => {
    const at = text.indexOf("=");
    if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
    throw new UsageError(`Invalid --label ${JSON.stringify(text)}: expected KEY=VALUE`);
  }));
}

function tell(
  { sandboxId, containerIds, name }: {
    readonly sandboxId: string;
    readonly containerIds: readonly string[];
    readonly name: string;
  },
  { json = false }: NewOptions,
  ports: ClientPorts,
): void {
  ports.print(
    json
      ? `${JSON.stringify({ id: sandboxId, name, containers: containerIds })}\n`
      : `${sandboxId}\n`,
  );
}

/** What a sandboxer answers that a directory is not its to use. */
const NOT_ITS_OWN: ReadonlySet<string> = new Set([
  "FailedPrecondition",
  "NotFound",
  "PermissionDenied",
]);

/** Has the sandboxer make one whose snapshot it is: which that is, only they know. */
async function restoreWith(
  able: readonly FleetInfo[],
  request: Parameters<ManagementClient["restore"]>[0],
): ReturnType<ManagementClient["restore"]> {
  const refusals: { readonly kind: string; readonly error: SandboxError }[] = [];
  for (const { client, info: { kind } } of able) {
    try {
      return await client.restore(request);
    } catch (thrown) {
      const error = SandboxError.from(thrown);
      if (!NOT_ITS_OWN.has(error.code)) throw error;
      refusals.push({ kind, error });
    }
  }
  const [first, second] = refusals;
  if (first !== undefined && second === undefined) throw first.error;
  const said = refusals.map(({ kind, error }) => `${kind} says: ${error.message}`).join("; ");
  throw new SandboxError(
    "FailedPrecondition",
    `cannot restore: no sandboxer can: ${said}: say whose it is with --kind`,
  );
}

/** The sandboxers that can make sandboxes of saved ones; at least one. */
async function ableSandboxers(
  fleet: Fleet,
  kind: string | undefined,
): Promise<readonly FleetInfo[]> {
  const infos = await fleet.infos();
  const able = infos.filter(({ info }) =>
    kind === undefined ? info.capabilities["restore"] === true : info.kind === kind
  );
  if (able.length > 0) return able;
  const kinds = infos.map(({ info }) => info.kind).join(", ");
  throw new SandboxError(
    "Unimplemented",
    `cannot restore: ${
      kind === undefined
        ? `of the sandboxers that run (${kinds}) none can make sandboxes of saved ones`
        : `no sandboxer of the kind "${kind}" runs, only ${kinds}`
    }: start the vmm sandboxer, such as with \`systemctl start quasaur-vmm\``,
  );
}
