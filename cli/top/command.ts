/**
 * `quasaur top`: all sandboxers with their pods, as they are now.
 *
 * @module
 */

import { Command, Option } from "commander";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { addAddress, addressesOf } from "../client/command.ts";
import { SOME_FAILED } from "../exit_codes.ts";
import { parseSpan } from "../show/times.ts";
import { complain, print } from "../terminal.ts";
import { UsageError } from "../usage_error.ts";
import { ALL, isSort, type Sort, SORTS } from "./selection.ts";

const EXAMPLES = `
CPU is in per cent of one CPU. POD p50/p99 is how long sandboxes took from created to started, RUN
p50/p99 how long containers did, over the last five minutes; STARTS/S counts both, over the last ten
seconds; RPC is how long the sandboxer's last answer took. Keys are on the screen, all of them with
"?". Without a terminal it prints one look, as with --once.

Examples:
  quasaur top
  quasaur top --sort memory --interval 5s
  quasaur top --once --filter web
  quasaur top --json | jq '.pods[] | select(.memoryBytes > 1e8) | .name'`;

/** How often usage is asked for unless something else is said, in milliseconds. */
const INTERVAL_MS = 2_000;
/** The shortest time between two, in milliseconds. */
const INTERVAL_MS_MIN = 250;
/** The longest, in milliseconds. */
const INTERVAL_MS_MAX = 3_600_000;
/** How wide text is where nothing else is known, in cells. */
const COLUMNS = 100;

/** The options as commander gathers them. */
interface TopOptions {
  readonly filter?: string;
  readonly interval: number;
  readonly json?: boolean;
  readonly once?: boolean;
  readonly sort: Sort;
}

/**
 * Makes the command.
 *
 * @param end Receives the exit code.
 */
export function topCommand(end: (code: number) => void): Command {
  const command = new Command("top")
    .description("Show all sandboxers and their pods as they are now, on the full screen.")
    .option("--filter <TEXT>", "only pods with this in a name, id, image, label or state")
    .addOption(
      new Option("--interval <DURATION>", "how often to measure")
        .argParser(parseInterval)
        .default(INTERVAL_MS, "2s"),
    )
    .option("--json", "print one look as JSON")
    .option("--once", "print one look as text")
    .option("--sort <COLUMN>", SORTS.join(", "), parseSort, "cpu");
  return addAddress(command)
    .addHelpText("after", EXAMPLES)
    .action(async (options: TopOptions) => {
      end(await top(addressesOf(command), options));
    });
}

function parseInterval(text: string): number {
  const ms = parseSpan(text);
  if (ms !== undefined && ms >= INTERVAL_MS_MIN && ms <= INTERVAL_MS_MAX) return ms;
  throw new UsageError(
    `Invalid --interval ${JSON.stringify(text)}: expected a time such as 5s, from ` +
      `${INTERVAL_MS_MIN}ms to 1h`,
  );
}

function parseSort(text: string): Sort {
  if (isSort(text)) return text;
  throw new UsageError(
    `Invalid --sort ${JSON.stringify(text)}: expected one of ${SORTS.join(", ")}`,
  );
}

/** Looks once or runs on the screen. What that needs is loaded now: other commands need none of it. */
async function top(named: readonly string[], options: TopOptions): Promise<number> {
  const { sort, filter = "", interval: intervalMs, json = false, once = false } = options;
  const selection = { ...ALL, sort, filter };
  try {
    const { givenAddresses } = await import("../../sandboxers/client/find.ts");
    const addresses = givenAddresses({ addresses: named });
    const isOnTerminal = Deno.stdin.isTerminal() && Deno.stdout.isTerminal() && !isDumb();
    if (json || once || !isOnTerminal) {
      const { asJson, asText, look } = await import("./once.ts");
      const columns = Deno.stdout.isTerminal() ? Deno.consoleSize().columns : COLUMNS;
      const scene = await look({ addresses, selection, columns });
      print(json ? asJson(scene) : asText(scene));
      return 0;
    }
    const { runSession } = await import("./session.ts");
    return await runSession({ addresses, selection, intervalMs, colours: !Deno.noColor });
  } catch (error) {
    if (error instanceof UsageError) throw error;
    complain(SandboxError.from(error).message);
    return SOME_FAILED;
  }
}

/** Whether the terminal can do nothing but print; where that may not be asked it can do more. */
function isDumb(): boolean {
  try {
    return Deno.env.get("TERM") === "dumb";
  } catch {
    return false;
  }
}
