/**
 * `deno task test`: sets up what the tests need, runs all of them or those named as arguments, and
 * ends with one line that says how many passed and failed.
 *
 * @module
 */

import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { setUp, setupLogPath } from "./setup.ts";
import { Progress } from "./setup/progress.ts";
import { planRuns } from "./test_lanes.ts";
import { closingLine, type Outcome, secondAttempts } from "./test_summary.ts";

/** Loaded before the tests. */
const DEADLINE_MODULE = new URL("./test_deadline.ts", import.meta.url).href;
/** How long a run may take, in milliseconds: what hangs outside of a test is ended then. */
const RUN_MS = 60 * 60_000;

/** Starts `deno test`; what it prints goes where `show` takes it, and is returned. */
async function runTests(
  args: readonly string[],
  show: WritableStream<Uint8Array>,
): Promise<Outcome> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--trace-leaks", `--preload=${DEADLINE_MODULE}`, ...args],
    // Its output passes through a pipe, behind which it cannot see the terminal.
    env: Deno.stdout.isTerminal() && !Deno.noColor ? { FORCE_COLOR: "1" } : {},
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
    signal: AbortSignal.timeout(RUN_MS),
  }).spawn();
  const [shown, kept] = child.stdout.tee();
  const [output, { code }] = await Promise.all([
    new Response(kept).text(),
    child.status,
    shown.pipeTo(show, { preventClose: true }),
  ]);
  return { status: code, output };
}

/** Takes what a run prints until it may be shown, so that two runs do not speak at once. */
class Turn {
  readonly #gate: TransformStream<Uint8Array, Uint8Array> = new TransformStream({}, {
    highWaterMark: Infinity,
  });

  /** Where the run prints to. */
  get writable(): WritableStream<Uint8Array> {
    return this.#gate.writable;
  }

  /** Shows it; the run has ended when this returns. */
  async show(run: Promise<Outcome>): Promise<Outcome> {
    const shown = this.#gate.readable.pipeTo(Deno.stdout.writable, { preventClose: true });
    try {
      return await run;
    } finally {
      await this.#gate.writable.close();
      await shown;
    }
  }
}

/** Runs what {@link planRuns} plans, one after the other on the screen. */
async function runAll(args: readonly string[]): Promise<Outcome[]> {
  const { together, alone } = planRuns(args);
  const turns = together.map((lane) => {
    const turn = new Turn();
    return { turn, run: runTests(lane, turn.writable) };
  });
  const outcomes: Outcome[] = [];
  for (const { turn, run } of turns) outcomes.push(await turn.show(run));
  return [...outcomes, await runTests(alone, Deno.stdout.writable)];
}

if (import.meta.main) {
  const progress = new Progress(setupLogPath());
  try {
    await setUp({ purposes: ["test"] }, progress);
  } catch (error) {
    progress.line(SandboxError.from(error).message);
    progress.line("0 passed, 1 failed");
    Deno.exit(1);
  }
  const outcomes = await runAll(Deno.args);
  for (const line of secondAttempts(outcomes)) progress.line(line);
  progress.line(closingLine(outcomes));
  Deno.exit(outcomes.find(({ status }) => status !== 0)?.status ?? 0);
}
