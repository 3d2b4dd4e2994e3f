/**
 * `quasaur stats`: what sandboxes use, once or again and again.
 *
 * @module
 */

import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Command, Option } from "commander";
import type { Fleet } from "../sandboxers/client/fleet.ts";
import type { ManagementClient } from "../sandboxers/client/management_client.ts";
import { addAddress, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { untilUnread } from "./client/until_unread.ts";
import { showBytes, showShare } from "./show/amounts.ts";
import { shortId } from "./show/sandboxes.ts";
import { type Column, table } from "./show/table.ts";
import { parseSpan } from "./show/times.ts";
import { type UsageRow, UsageRows } from "./usage_rows.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
CPU is what was used since the line before, 100 % for one CPU. On a terminal the table is drawn anew
until Ctrl-C. Ends with 1 where a sandboxer did not answer or has gone.

Examples:
  quasaur stats
  quasaur stats --no-stream --containers web
  quasaur stats --json --interval 5s | jq -c '[.sandbox, .memoryBytes]'`;

/** How often it is measured unless something else is said, in milliseconds. */
const INTERVAL_MS = 1000;
/** The shortest time that the API takes, in milliseconds. */
const INTERVAL_MS_MIN = 100;
/** The longest time that a timer can count, in milliseconds. */
const INTERVAL_MS_MAX = 2_147_483_647;
/** How long a single look takes: two samples make a share of CPU, in milliseconds. */
const SINGLE_MS = 500;

/** To the upper left corner, and everything from there on cleared (ECMA-48). */
const CLEAR = "\x1b[H\x1b[J";

const encoder = new TextEncoder();

/** The options as commander gathers them. */
interface StatsOptions {
  readonly containers?: boolean;
  readonly interval: number;
  readonly json?: boolean;
  readonly stream: boolean;
  readonly trunc: boolean;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function statsCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("stats")
    .description("Show what sandboxes use.")
    .argument("[TARGETS...]", "sandboxes, by id, name or the beginning of an id; default: all")
    .option("-c, --containers", "a line for each container in the place of its sandbox")
    .addOption(
      new Option("--interval <DURATION>", "how often, such as 5s")
        .argParser(parseInterval)
        .default(INTERVAL_MS, "1s"),
    )
    .option("--json", "print JSON: a line for each sandbox or container, each time")
    .option("--no-stream", "once")
    .option("--no-trunc", "print ids in full");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (targets: string[], options: StatsOptions) => {
      end(await withFleet(command, ports, (fleet) => showStats(fleet, targets, options, ports)));
    });
}

function parseInterval(text: string): number {
  const ms = parseSpan(text);
  if (ms !== undefined && ms >= INTERVAL_MS_MIN && ms <= INTERVAL_MS_MAX) return ms;
  throw new UsageError(
    `Invalid --interval ${JSON.stringify(text)}: expected a time such as 5s, at least ` +
      `${INTERVAL_MS_MIN}ms`,
  );
}

/** The sandboxes of one sandboxer that are looked at; none for all. */
interface Watched {
  readonly client: ManagementClient;
  readonly sandboxIds: readonly string[];
}

async function showStats(
  fleet: Fleet,
  targets: readonly string[],
  options: StatsOptions,
  ports: ClientPorts,
): Promise<number> {
  const watched = await watchedOf(fleet, targets);
  const rows = new UsageRows({
    byContainer: options.containers ?? false,
    describe: async (client) => await client.list(),
  });
  if (options.json) await untilUnread(printLines(watched, rows, options, ports));
  else if (options.stream) await untilUnread(redraw(watched, rows, options, ports));
  else {
    await Promise.all(watched.map(async (one) => {
      let samples = 0;
      for await (const response of samplesOf(one, SINGLE_MS)) {
        await rows.take(one.client, response);
        if (++samples === 2) break;
      }
    }));
    ports.print(textOf(rows.all(), options, ports));
  }
  return 0;
}

/** Which sandboxes of which sandboxers. */
async function watchedOf(fleet: Fleet, targets: readonly string[]): Promise<Watched[]> {
  if (targets.length === 0) return fleet.clients.map((client) => ({ client, sandboxIds: [] }));
  const found = await Promise.all(targets.map((target) => fleet.resolve(target)));
  const byClient = Map.groupBy(found, ({ client }) => client);
  return [...byClient].map(([client, some]) => ({
    client,
    sandboxIds: [...new Set(some.map(({ sandbox }) => sandbox.id))],
  }));
}

function samplesOf({ client, sandboxIds }: Watched, intervalMs: number, signal?: AbortSignal) {
  const request = { sandboxIds: [...sandboxIds], interval: durationFromMs(intervalMs) };
  return client.stats(request, signal === undefined ? {} : { signal });
}

/** A line for each row, as samples come. */
async function printLines(
  watched: readonly Watched[],
  rows: UsageRows,
  { stream, interval }: StatsOptions,
  ports: ClientPorts,
): Promise<void> {
  const over = new AbortController();
  try {
    await Promise.all(watched.map(async (one) => {
      let samples = 0;
      for await (const sample of samplesOf(one, stream ? interval : SINGLE_MS, over.signal)) {
        const some = await rows.take(one.client, sample);
        samples++;
        // The first sample of one look has no share of CPU yet.
        if (!stream && samples < 2) continue;
        const lines = some.map((row) => `${JSON.stringify(row)}\n`).join("");
        await ports.streams.output(encoder.encode(lines));
        if (!stream) break;
      }
    }));
  } finally {
    over.abort();
  }
}

/** The table, again and again, until the first of the sandboxers or the reader goes. */
async function redraw(
  watched: readonly Watched[],
  rows: UsageRows,
  options: StatsOptions,
  ports: ClientPorts,
): Promise<void> {
  const over = new AbortController();
  const before = ports.terminal() === undefined ? "" : CLEAR;
  const { promise: unread, reject } = Promise.withResolvers<never>();
  let isDrawing = false;
  const draw = (): void => {
    if (isDrawing) return;
    isDrawing = true;
    ports.streams.output(encoder.encode(before + textOf(rows.all(), options, ports))).then(() => {
      isDrawing = false;
    }, reject);
  };
  // Drawn once a turn, however many sandboxers there are.
  let timer: ReturnType<typeof setInterval> | undefined;
  const all = Promise.all(watched.map(async (one) => {
    for await (const sample of samplesOf(one, options.interval, over.signal)) {
      await rows.take(one.client, sample);
      if (timer !== undefined) continue;
      timer = setInterval(draw, options.interval);
      draw();
    }
  }));
  try {
    await Promise.race([all, unread]);
  } finally {
    clearInterval(timer);
    over.abort();
  }
}

function textOf(rows: readonly UsageRow[], options: StatsOptions, ports: ClientPorts): string {
  return table(rows, columns(options), ports.colours());
}

function columns({ trunc, containers = false }: StatsOptions): Column<UsageRow>[] {
  const id = (text: string) => trunc ? shortId(text) : text;
  return [
    { title: "SANDBOX", text: ({ sandbox }) => id(sandbox) },
    ...(containers
      ? [{ title: "CONTAINER", text: ({ container = "" }: UsageRow) => id(container) }]
      : []),
    { title: "NAME", text: ({ name }) => name === "" ? "-" : name },
    { title: "KIND", text: ({ kind }) => kind },
    { title: "CPU", right: true, text: ({ cpuShare }) => showShare(cpuShare ?? undefined) },
    { title: "MEMORY", right: true, text: ({ memoryBytes }) => showBytes(memoryBytes) },
    {
      title: "LIMIT",
      right: true,
      text: ({ memoryLimitBytes: limit }) => limit === 0 ? "-" : showBytes(limit),
    },
    {
      title: "SHARE",
      right: true,
      text: ({ memoryBytes, memoryLimitBytes: limit }) =>
        showShare(limit === 0 ? undefined : memoryBytes / limit),
    },
    { title: "PIDS", right: true, text: ({ pids }) => `${pids}` },
  ];
}
