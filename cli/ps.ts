/**
 * `quasaur ps`: the sandboxes of all sandboxers, as a table, as ids or as JSON.
 *
 * @module
 */

import { Command } from "commander";
import type { Sandbox } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import { allSandboxes } from "./client/all_sandboxes.ts";
import { addAddress, append, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { SOME_FAILED } from "./exit_codes.ts";
import {
  type Filter,
  FILTER_SYNTAX,
  filtersOf,
  isOfKind,
  parseAskedKind,
} from "./sandbox_filter.ts";
import {
  colourOfState,
  isOver,
  sandboxJson,
  shortId,
  showContainers,
  showImages,
  stateOf,
  timeMs,
} from "./show/sandboxes.ts";
import { type Column, table } from "./show/table.ts";
import { ago } from "./show/times.ts";

const EXAMPLES = `
Shows the sandboxes that are not over, of all sandboxers that run: pods that containerd made, and
what \`quasaur run\` made. Ends with 1 where a sandboxer did not answer.

Examples:
  quasaur ps
  quasaur ps -a --filter name=web --filter state=stopped
  quasaur ps -q --filter label=app=web | xargs -r quasaur stop
  quasaur ps --json | jq -r '.[].containers[].image'`;

/** The options as commander gathers them. */
interface PsOptions {
  readonly all?: boolean;
  readonly filter?: readonly string[];
  readonly json?: boolean;
  readonly kind?: string;
  readonly namespace?: string;
  readonly quiet?: boolean;
  readonly trunc: boolean;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function psCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("ps").alias("ls")
    .description("Show the sandboxes of all sandboxers.")
    .option("-a, --all", "also those that are over")
    .option("-f, --filter <KEY=VALUE>", FILTER_SYNTAX, append)
    .option("--json", "print JSON: an array of sandboxes")
    .option(
      "--kind <KIND>",
      "only of this kind: wasm, vmm, quark, or gvisor for those of quark on gVisor",
      (text: string) => parseAskedKind(text),
    )
    .option("-n, --namespace <NAME>", "only of this containerd namespace, such as k8s.io")
    .option("--no-trunc", "print ids in full")
    .option("-q, --quiet", "print ids only, in full");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (options: PsOptions) => {
      end(await showSandboxes(command, options, ports));
    });
}

async function showSandboxes(
  command: Command,
  options: PsOptions,
  ports: ClientPorts,
): Promise<number> {
  const { kind, namespace = "" } = options;
  const filters = filtersOf(options.filter ?? []);
  return await withFleet(command, ports, async (fleet) => {
    const { found, problems } = await allSandboxes(fleet, { namespace });
    // Whoever asks for a state means it, over or not.
    const all = options.all === true || filters.some(({ key }) => key === "state" || key === "id");
    const sandboxes = found.map(({ sandbox }) => sandbox).filter((sandbox) =>
      (all || !isOver(sandbox)) && (kind === undefined || isOfKind(sandbox, kind)) &&
      filters.every((filter: Filter) => filter.takes(sandbox))
    );
    ports.print(textOf(sandboxes, options, ports));
    for (const { message } of problems) ports.complain(message);
    return problems.length > 0 ? SOME_FAILED : 0;
  });
}

function textOf(sandboxes: readonly Sandbox[], options: PsOptions, ports: ClientPorts): string {
  if (options.json) return `${JSON.stringify(sandboxes.map(sandboxJson), null, 2)}\n`;
  if (options.quiet) return sandboxes.map(({ id }) => `${id}\n`).join("");
  return table(sandboxes, columns(options.trunc, ports.now()), ports.colours());
}

function columns(isShort: boolean, now: number): Column<Sandbox>[] {
  return [
    { title: "ID", text: ({ id }) => isShort ? shortId(id) : id },
    { title: "NAME", text: ({ name }) => name === "" ? "-" : name },
    { title: "KIND", text: ({ kind }) => kind },
    { title: "STATE", text: stateOf, colour: colourOfState },
    { title: "CONTAINERS", text: showContainers },
    { title: "IMAGE", text: showImages },
    { title: "CREATED", text: ({ createdAt }) => ago(timeMs(createdAt), now) },
    { title: "NAMESPACE", text: ({ namespace }) => namespace },
  ];
}
