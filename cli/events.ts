/**
 * `quasaur events`: what happens to sandboxes, of all sandboxers.
 *
 * @module
 */

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Command } from "commander";
import type { Event } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import type { Fleet } from "../sandboxers/client/fleet.ts";
import type { ManagementClient } from "../sandboxers/client/management_client.ts";
import { addAddress, append, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { untilUnread } from "./client/until_unread.ts";
import { sinceOf } from "./logs.ts";
import type { Colour } from "./show/colours.ts";
import { printable } from "./show/printable.ts";
import { exitJson, type Json, shortId, timeJson, timeMs } from "./show/sandboxes.ts";
import { SINCE_SYNTAX } from "./show/times.ts";
import { UsageError } from "./usage_error.ts";

/** What a filter looks at. */
const KEYS = ["type", "sandbox", "container", "namespace"] as const;

/** The names of the keys, for completion. */
export const EVENT_FILTER_KEYS: readonly string[] = KEYS;

const EXAMPLES = `
Prints what is remembered of the last minutes, a line each, and ends; with --follow what happens from
now on, after what --since asks for. Ends with 1 where a sandboxer did not answer or has gone.

Examples:
  quasaur events
  quasaur events --follow --since 5m --filter type=process-exited
  quasaur events --follow --json | jq -r 'select(.exit.status != 0).sandbox'`;

/** The options as commander gathers them. */
interface EventsOptions {
  readonly filter?: readonly string[];
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly since?: string;
}

const encoder = new TextEncoder();

/** Whether an event is asked for. */
type Takes = (event: Event) => boolean;

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function eventsCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("events")
    .description("Print what happens to sandboxes.")
    .option(
      "--filter <KEY=VALUE>",
      `only those that fit, by ${KEYS.join(", ")}; of the same key one is enough, of different ` +
        "keys all; may be repeated",
      append,
    )
    .option("-f, --follow", "what happens from now on")
    .option("--json", "print JSON: a line for each event")
    .option("--since <WHEN>", `from then on: ${SINCE_SYNTAX}`);
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (options: EventsOptions) => {
      const takes = filterOf(options.filter ?? []);
      const since = sinceOf(options.since, ports);
      end(
        await withFleet(command, ports, async (fleet) => {
          if (options.follow) await follow(fleet, takes, since, options, ports);
          else await printRemembered(fleet, takes, since ?? 0, options, ports);
          return 0;
        }),
      );
    });
}

/** Reads filters. */
function filterOf(texts: readonly string[]): Takes {
  const values = new Map<typeof KEYS[number], string[]>();
  for (const text of texts) {
    const at = text.indexOf("=");
    const key = KEYS.find((key) => key === text.slice(0, at));
    if (key === undefined || at === text.length - 1) {
      throw new UsageError(
        `Invalid --filter ${JSON.stringify(text)}: expected KEY=VALUE with one of ${
          KEYS.join(", ")
        }`,
      );
    }
    values.set(key, [...values.get(key) ?? [], text.slice(at + 1)]);
  }
  return (event) =>
    [...values].every(([key, some]) =>
      some.some((value) => {
        switch (key) {
          case "type":
            return event.type === value;
          case "sandbox":
            return event.sandboxId.startsWith(value);
          case "container":
            return event.containerId !== "" && event.containerId.startsWith(value);
          case "namespace":
            return event.namespace === value;
        }
      })
    );
}

/** What all sandboxers remember, by time. */
async function printRemembered(
  fleet: Fleet,
  takes: Takes,
  since: number,
  options: EventsOptions,
  ports: ClientPorts,
): Promise<void> {
  const request = { since: timestampFromMs(since), noFollow: true };
  const lists = await Promise.all(
    fleet.clients.map((client) => Array.fromAsync(client.events(request))),
  );
  const events = lists.flat().sort((a, b) => timeMs(a.at) - timeMs(b.at)).filter(takes);
  ports.print(events.map((event) => lineOf(event, options, ports)).join(""));
}

/** What happens, until the first of the sandboxers or the reader goes. */
async function follow(
  fleet: Fleet,
  takes: Takes,
  since: number | undefined,
  options: EventsOptions,
  ports: ClientPorts,
): Promise<void> {
  const request = since === undefined ? {} : { since: timestampFromMs(since) };
  const over = new AbortController();
  const one = async (client: ManagementClient): Promise<void> => {
    for await (const event of client.events(request, { signal: over.signal })) {
      if (takes(event)) await ports.streams.output(encoder.encode(lineOf(event, options, ports)));
    }
  };
  try {
    await untilUnread(Promise.all(fleet.clients.map(one)));
  } finally {
    over.abort();
  }
}

const COLOURS: readonly (readonly [type: RegExp, colour: Colour])[] = [
  [/failed|oom/, "red"],
  [/started|resumed/, "green"],
  [/exited|stopped|deleted/, "dim"],
];

function lineOf(event: Event, { json = false }: EventsOptions, ports: ClientPorts): string {
  if (json) return `${JSON.stringify(eventJson(event))}\n`;
  const { at, type, namespace, sandboxId, containerId, execId, pid, exit, message } = event;
  const colour = COLOURS.find(([pattern]) => pattern.test(type))?.[1];
  const words = [
    timeJson(at) ?? "-",
    colour === undefined ? type : ports.colours().paint(colour, type),
    `namespace=${namespace}`,
    `sandbox=${shortId(sandboxId)}`,
    ...(containerId === "" ? [] : [`container=${shortId(containerId)}`]),
    ...(execId === "" ? [] : [`exec=${execId}`]),
    ...(pid === 0 ? [] : [`pid=${pid}`]),
    ...(exit === undefined ? [] : [`status=${exit.status}`]),
    ...(exit === undefined || exit.reason === "exited" ? [] : [`reason=${exit.reason}`]),
    ...(message === "" ? [] : [`message=${JSON.stringify(message)}`]),
  ];
  const lost = event.lostBefore > 0n ? `${event.lostBefore} events were lost here\n` : "";
  const [time = "", name = "", ...rest] = words;
  return `${lost}${time} ${name} ${rest.map(printable).join(" ")}\n`;
}

/** An event as JSON. */
function eventJson(event: Event): Json {
  const { at, type, namespace, sandboxId, containerId, execId, pid, exit, message } = event;
  return {
    ...{ at: timeJson(at), type, namespace, sandbox: sandboxId },
    ...(containerId === "" ? {} : { container: containerId }),
    ...(execId === "" ? {} : { exec: execId }),
    ...(pid === 0 ? {} : { pid }),
    ...(exit === undefined ? {} : { exit: exitJson(exit) }),
    ...(message === "" ? {} : { message }),
    ...(event.lostBefore === 0n ? {} : { lostBefore: Number(event.lostBefore) }),
  };
}
