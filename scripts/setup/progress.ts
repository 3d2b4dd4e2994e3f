/**
 * Tells a person what set-up does: short lines on the terminal, everything in a log file.
 *
 * @module
 */

/** How often a long command tells that it is alive where no terminal is, in milliseconds. */
const PLAIN_INTERVAL_MS = 10_000;

/** How often it does on a terminal, in milliseconds. */
const TERMINAL_INTERVAL_MS = 500;

/** The columns of a progress line. */
const COLUMNS = 100;

/** What a logged command did. */
export interface LoggedResult {
  /** Exit status. */
  readonly status: number;
  /** What it wrote, both streams. */
  readonly output: string;
}

/** Tells what happens. */
export class Progress {
  readonly #print: (text: string) => void;
  readonly #isTerminal: boolean;

  /**
   * Tells on standard output.
   *
   * @param logPath The file that takes the output of commands, appended.
   * @param print Where to tell; default standard output.
   */
  constructor(readonly logPath: string, print?: (text: string) => void) {
    const encoder = new TextEncoder();
    this.#print = print ?? ((text) => Deno.stdout.writeSync(encoder.encode(text)));
    this.#isTerminal = print === undefined && Deno.stdout.isTerminal();
  }

  /**
   * Writes one line.
   *
   * @param text Without a line feed.
   */
  line(text = ""): void {
    this.#print(`${text}\n`);
  }

  /**
   * Writes a remark on the step under way.
   *
   * @param text Without a line feed.
   */
  note(text: string): void {
    this.line(`     ${text}`);
  }

  /**
   * Runs a command with its output in the log, telling now and then how far it is.
   *
   * @param command The program and its arguments.
   * @param env Variables added to the environment.
   * @param timeoutMs How long it may run, in milliseconds; then it is killed.
   */
  async runLogged(
    command: readonly [string, ...string[]],
    env: Record<string, string>,
    timeoutMs: number,
  ): Promise<LoggedResult> {
    await Deno.writeTextFile(this.logPath, `\n$ ${command.join(" ")}\n`, { append: true });
    const start = (await Deno.stat(this.logPath)).size;
    const child = new Deno.Command("/bin/sh", {
      args: ["-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "sh", this.logPath, ...command],
      env,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const kill = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    const begin = performance.now();
    const interval = this.#isTerminal ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS;
    const tick = setInterval(() => this.#alive(begin), interval);
    try {
      const { code } = await child.status;
      if (this.#isTerminal) this.#print("\r\x1b[K");
      return { status: code, output: (await this.#logText()).slice(start) };
    } finally {
      clearTimeout(kill);
      clearInterval(tick);
    }
  }

  /** Shows the time and the last line of the log. */
  async #alive(begin: number): Promise<void> {
    const seconds = Math.round((performance.now() - begin) / 1000);
    const last = (await this.#logText()).trimEnd().split("\n").at(-1)?.trim() ?? "";
    const text = `     ${seconds} s: ${last}`.slice(0, COLUMNS);
    this.#print(this.#isTerminal ? `\r\x1b[K${text}` : `${text}\n`);
  }

  async #logText(): Promise<string> {
    return await Deno.readTextFile(this.logPath);
  }
}
