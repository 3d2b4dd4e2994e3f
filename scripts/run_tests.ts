/**
 * `deno task test`: sets up what the tests need, runs all of them or those named as arguments, and
 * ends with one line that says how many passed and failed.
 *
 * @module
 */

import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { setUp, setupLogPath } from "./setup.ts";
import { Progress } from "./setup/progress.ts";
import { closingLine } from "./test_summary.ts";

/** Runs `deno test`, shows what it prints as it comes, and returns it with its exit status. */
async function runTests(args: readonly string[]): Promise<{ status: number; output: string }> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "-A", "--trace-leaks", ...args],
    // Its output passes through a pipe, behind which it cannot see the terminal.
    env: Deno.stdout.isTerminal() && !Deno.noColor ? { FORCE_COLOR: "1" } : {},
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const [shown, kept] = child.stdout.tee();
  const [output, { code }] = await Promise.all([
    new Response(kept).text(),
    child.status,
    shown.pipeTo(Deno.stdout.writable, { preventClose: true }),
  ]);
  return { status: code, output };
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
  const { status, output } = await runTests(Deno.args);
  progress.line(closingLine(status, output));
  Deno.exit(status);
}
