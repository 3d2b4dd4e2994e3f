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
import { untilUnread } from "./client/until_unread.ts";
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

/** How much is written at once, in bytes. */
const WRITE_BYTES = 65_536;

/** The options as commander gathers them. */
interface LogsOptions {
  readonly follow?: boolean;
  readonly json?: boolean;
  readonly since?: string;
  readonly tail?: number | "all";
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
    .option("-n, --tail <N>", "only so many of the last lines, or all; 0 for new ones", parseTail)
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

function parseTail(text: string): number | "all" {
  if (text === "all") return text;
  if (/^\d{1,10}$/.test(text) && Number(text) <= TAIL_MAX) return Number(text);
  throw new UsageError(`Invalid --tail ${JSON.stringify(text)}: expected a whole number, or all`);
}

async function printLogs(
  { client, container }: FleetContainer,
  options: LogsOptions,
  since: number | undefined,
  ports: ClientPorts,
): Promise<number> {
  const { follow = false, tail = "all" } = options;
  // To the sandboxer no lines are all of them: what is wanted then is what comes from now on.
  const from = tail === 0 ? Math.max(since ?? 0, ports.now()) : since;
  const entries = client.logs({
    target: container.id,
    follow,
    tail: tail === "all" ? 0 : tail,
    ...(from === undefined ? {} : { since: timestampFromMs(from) }),
  });
  using printer = new LogPrinter(options, ports);
  const all = (async () => {
    for await (const entry of entries) await printer.print(entry);
    await printer.flush();
  })();
  await untilUnread(Promise.race([all, printer.failed]));
  return 0;
}

/** Prints entries, each on the stream that it was written to, and those that come together at once. */
class LogPrinter implements Disposable {
  readonly #options: LogsOptions;
  readonly #ports: ClientPorts;
  readonly #encoder = new TextEncoder();
  readonly #failure = Promise.withResolvers<never>();
  /** Streams of which the last entry did not end a line. */
  readonly #open = new Set<string>();
  /** What is not written yet, all of it to one output. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #output: "output" | "error" = "output";
  #written = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: LogsOptions, ports: ClientPorts) {
    this.#options = options;
    this.#ports = ports;
    // Mostly nobody waits for it.
    this.#failure.promise.catch(() => undefined);
  }

  /** Rejected when something cannot be written, such as when the reader has gone. */
  get failed(): Promise<never> {
    return this.#failure.promise;
  }

  async print(entry: LogEntry): Promise<void> {
    const isJson = this.#options.json === true;
    const output = !isJson && entry.stream === "stderr" ? "error" : "output";
    if (output !== this.#output) await this.flush();
    this.#output = output;
    const bytes = isJson ? this.#encoder.encode(`${logJson(entry)}\n`) : this.#bytesOf(entry);
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes >= WRITE_BYTES) await this.flush();
    else this.#timer ??= setTimeout(() => void this.flush().catch(() => undefined), 0);
  }

  /** Writes what waits. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const [parts, output] = [this.#waiting, this.#output];
    this.#waiting = [];
    this.#waitingBytes = 0;
    if (parts.length > 0) {
      this.#written = this.#written.then(() => this.#ports.streams[output](joined(parts)));
      this.#written.catch(this.#failure.reject);
    }
    await this.#written;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #bytesOf({ at, stream, content, partial }: LogEntry): Uint8Array {
    const begins = !this.#open.has(stream);
    if (partial) this.#open.add(stream);
    else this.#open.delete(stream);
    const before = this.#options.timestamps && begins ? `${timeJson(at) ?? "-"} ` : "";
    const after = partial || content.at(-1) === NEWLINE ? "" : "\n";
    if (before === "" && after === "") return content;
    return joined([this.#encoder.encode(before), content, this.#encoder.encode(after)]);
  }
}

/** Pieces as one. */
function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** An entry as one line of JSON; what is no UTF-8 in it is replaced. */
function logJson({ at, stream, content, partial }: LogEntry): string {
  const text = new TextDecoder().decode(content);
  return JSON.stringify({ at: timeJson(at), stream, text, partial });
}
