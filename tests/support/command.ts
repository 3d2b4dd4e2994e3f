/**
 * Runs other programs to their end, within a time limit, and makes failures readable.
 *
 * @module
 */

/** Options of {@link run}. */
export interface RunOptions {
  /** How long the program may run, in milliseconds. Default 60000. */
  readonly timeoutMs?: number;
  /** Variables added to the environment. */
  readonly env?: Record<string, string>;
  /** The working directory. */
  readonly cwd?: string;
  /** Whether a non-zero exit status throws. Default true. */
  readonly check?: boolean;
}

/** What a program did. */
export interface RunResult {
  /** Exit status; 128 + n after signal n. */
  readonly status: number;
  /** Everything it wrote to standard output. */
  readonly stdout: string;
  /** Everything it wrote to standard error. */
  readonly stderr: string;
}

/** How many lines of output an error message quotes. */
const TAIL_LINES = 20;

/**
 * Runs a program.
 *
 * @param command The program and its arguments.
 * @returns What it did.
 * @throws {Error} When it cannot be started, fails (unless `check` is false) or takes too long (then
 *   it is killed); the message quotes the end of its output.
 */
export async function run(
  command: readonly [string, ...string[]],
  options: RunOptions = {},
): Promise<RunResult> {
  const { timeoutMs = 60_000, env = {}, cwd, check = true } = options;
  const [program, ...args] = command;
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), timeoutMs);
  try {
    const output = await new Deno.Command(program, {
      args,
      env,
      ...(cwd === undefined ? {} : { cwd }),
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal: timeout.signal,
    }).output();
    const stdout = new TextDecoder().decode(output.stdout);
    const stderr = new TextDecoder().decode(output.stderr);
    const failed = output.code !== 0 && check;
    if (timeout.signal.aborted || failed) {
      const why = timeout.signal.aborted
        ? `took more than ${timeoutMs} ms`
        : `status ${output.code}`;
      throw new Error(`Cannot run "${command.join(" ")}": ${why}\n${tail(stdout + stderr)}`);
    }
    return { status: output.code, stdout, stderr };
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The end of a text.
 *
 * @param text Any text.
 * @param lines How many lines to keep.
 */
export function tail(text: string, lines: number = TAIL_LINES): string {
  return text.trimEnd().split("\n").slice(-lines).join("\n");
}
