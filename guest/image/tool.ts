/**
 * Runs the few programs that building an image takes (apt, dpkg-deb, a decompressor), with bounded
 * time and bytes for input and output.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** The longest that one program may take, in milliseconds. */
const TIMEOUT_MS = 10 * 60_000;

/** How much of a program's last words an error quotes, in characters. */
const QUOTE_CHARACTERS = 600;

/** How to run a program. */
export interface ToolOptions {
  /** What it reads from its standard input. */
  readonly input?: Uint8Array;
  /** Its working directory. */
  readonly directory?: string;
  /** The Debian package that brings it, for the message where it is missing. */
  readonly package: string;
}

/**
 * Runs a program to its end.
 *
 * @param command The program and its arguments.
 * @param options See {@link ToolOptions}.
 * @returns What it wrote to its standard output.
 * @throws {SandboxError} `FailedPrecondition` where it is missing, fails or takes too long.
 */
export async function runTool(
  command: readonly [string, ...string[]],
  options: ToolOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const [program, ...args] = command;
  const action = `cannot run "${command.join(" ").slice(0, 300)}"`;
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const child = spawn(program, args, options, signal, action);
  const feeding = options.input === undefined ? undefined : feed(child, options.input);
  const { code, stdout, stderr } = await child.output();
  await feeding;
  if (code === 0) return stdout;
  const words = new TextDecoder().decode(stderr).trim().slice(-QUOTE_CHARACTERS);
  const why = signal.aborted ? `no end after ${TIMEOUT_MS} ms` : `exit status ${code}: ${words}`;
  throw new SandboxError("FailedPrecondition", `${action}: ${why}`);
}

/**
 * Runs a program to its end.
 *
 * @param command The program and its arguments.
 * @param options See {@link ToolOptions}.
 * @returns What it wrote to its standard output, as text.
 * @throws {SandboxError} As {@link runTool}.
 */
export async function runToolText(
  command: readonly [string, ...string[]],
  options: ToolOptions,
): Promise<string> {
  return new TextDecoder().decode(await runTool(command, options));
}

/** Starts it, in the locale whose output is fixed. */
function spawn(
  program: string,
  args: string[],
  options: ToolOptions,
  signal: AbortSignal,
  action: string,
): Deno.ChildProcess {
  try {
    return new Deno.Command(program, {
      args,
      env: { LC_ALL: "C" },
      ...(options.directory === undefined ? {} : { cwd: options.directory }),
      stdin: options.input === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      signal,
    }).spawn();
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound)) throw SandboxError.from(cause, action);
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: not found: install the Debian package ${options.package}`,
      { cause },
    );
  }
}

/** Writes all of the input; a program that stops reading tells why by its exit status. */
async function feed(child: Deno.ChildProcess, input: Uint8Array): Promise<void> {
  await ReadableStream.from([input]).pipeTo(child.stdin).catch(() => {});
}
