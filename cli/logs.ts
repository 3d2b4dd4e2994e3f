/**
 * `quasaur logs`: what a container has written, and what it writes.
 *
 * @module
 */

import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Command } from "commander";
import type { LogEntry } from "../proto/gen/quasaur/management/v1/management_pb.ts";
import type { FleetContainer } from "../sandboxers/client/fleet.ts";
import { addAddress, withFleet } from "./client/command.ts";
import { CLIENT_PORTS, type ClientPorts } from "./client/ports.ts";
import { timeJson } from "./show/sandboxes.ts";
import { parseSince, SINCE_SYNTAX } from "./show/times.ts";
import { UsageError } from "./usage_error.ts";

const EXAMPLES = `
Works on what \`quasaur run\` made: the logs of pods that containerd made are containerd's. What the
container wrote to standard output comes on standard output, the rest on standard error. Ends with 1
where there are no logs to show.

Examples:
  quasaur logs web
  quasaur logs --follow --tail 20 web
  quasaur logs --since 10m --timestamps pod-1/app 2> errors.txt`;

/** The most lines that can be asked for. */
const TAIL_MAX = 0xffff_ffff;

const NEWLINE = 0x0a;

/** The options as commander gathers them. */
interface LogsOptions {
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly since?: string;
  readonly tail?: number;
  readonly timestamps?: boolean;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 * @param ports What it works with.
 */
export function logsCommand(
  end: (code: number) => void,
  ports: ClientPorts = CLIENT_PORTS,
): Command {
  const command = new Command("logs")
    .description("Print what a container that run made has written.")
    .argument("<TARGET>", "the container, or a sandbox with one container")
    .option("-f, --follow", "also what it writes from now on, until it ends")
    .option("--json", "print JSON: a line for each line or part of one")
    .option("--since <WHEN>", `only from then on: ${SINCE_SYNTAX}`)
    .option("--tail <N>", "only so many of the last lines, or all", parseTail)
    .option("-t, --timestamps", "print the time before each line");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (target: string, options: LogsOptions) => {
      const since = sinceOf(options.since, ports);
      end(
        await withFleet(command, ports, async (fleet) => {
          const found = await fleet.resolveContainer(target, "cannot print the logs of");
          return await printLogs(found, options, since, ports);
        }),
      );
    });
}

/**
 * Reads `--since`.
 *
 * @returns Milliseconds since the epoch; undefined where nothing is said.
 * @throws {UsageError}
 */
export function sinceOf(text: string | undefined, ports: ClientPorts): number | undefined {
  if (text === undefined) return undefined;
  const at = parseSince(text, ports.now());
  if (at !== undefined) return at;
  throw new UsageError(`Invalid --since ${JSON.stringify(text)}: expected ${SINCE_SYNTAX}`);
}

function parseTail(text: string): number {
  if (text === "all") return 0;
  if (/^\d{1,10}$/.test(text) && Number(text) > 0 && Number(text) <= TAIL_MAX) return Number(text);
  throw new UsageError(
    `Invalid --tail ${JSON.stringify(text)}: expected a whole number above 0, or all`,
  );
}

async function printLogs(
  { client, container }: FleetContainer,
  options: LogsOptions,
  since: number | undefined,
  ports: ClientPorts,
): Promise<number> {
  const entries = client.logs({
    target: container.id,
    follow: options.follow ?? false,
    tail: options.tail ?? 0,
    ...(since === undefined ? {} : { since: timestampFromMs(since) }),
  });
  const printer = new LogPrinter(options, ports);
  try {
    for await (const entry of entries) await printer.print(entry);
  } catch (error) {
    // Whoever read this has seen enough.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
  return 0;
}

/** Prints entries, each on the stream that it was written to. */
class LogPrinter {
  readonly #options: LogsOptions;
  readonly #ports: ClientPorts;
  readonly #encoder = new TextEncoder();
  /** Streams of which the last entry did not end a line. */
  readonly #open = new Set<string>();

  constructor(options: LogsOptions, ports: ClientPorts) {
    this.#options = options;
    this.#ports = ports;
  }

  async print(entry: LogEntry): Promise<void> {
    const { output, error } = this.#ports.streams;
    if (this.#options.json) return await output(this.#encoder.encode(`${logJson(entry)}\n`));
    await (entry.stream === "stderr" ? error : output)(this.#bytesOf(entry));
  }

  #bytesOf({ at, stream, content, partial }: LogEntry): Uint8Array {
    const begins = !this.#open.has(stream);
    if (partial) this.#open.add(stream);
    else this.#open.delete(stream);
    const before = this.#options.timestamps && begins ? `${timeJson(at) ?? "-"} ` : "";
    const after = partial || content.at(-1) === NEWLINE ? "" : "\n";
    if (before === "" && after === "") return content;
    const [head, tail] = [this.#encoder.encode(before), this.#encoder.encode(after)];
    const bytes = new Uint8Array(head.length + content.length + tail.length);
    bytes.set(head);
    bytes.set(content, head.length);
    bytes.set(tail, head.length + content.length);
    return bytes;
  }
}

/** An entry as one line of JSON; what is no UTF-8 in it is replaced. */
function logJson({ at, stream, content, partial }: LogEntry): string {
  const text = new TextDecoder().decode(content);
  return JSON.stringify({ at: timeJson(at), stream, text, partial });
}
