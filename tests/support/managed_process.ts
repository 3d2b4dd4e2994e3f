/**
 * A daemon that a test starts, stops, kills and starts again, with its output in a file.
 *
 * @module
 */

import { tail } from "./command.ts";
import { identify } from "./process_identity.ts";

/** How to start a daemon. */
export interface ProcessDescription {
  /** What it is called in messages. */
  readonly name: string;
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** Variables added to the environment. */
  readonly env?: Record<string, string>;
  /** The file that takes both outputs, appended; beside it the process is named in a `.pid` file. */
  readonly logPath: string;
}

/** Lines longer than this many characters are cut in {@link ManagedProcess.logTail}. */
const LONG_LINE = /^(.{300}).+$/gm;

/** How long a daemon may take to stop before it is killed, in milliseconds. */
const STOP_TIMEOUT_MS = 40_000;

/** A daemon of a test. */
export class ManagedProcess {
  readonly #description: ProcessDescription;
  #child: Deno.ChildProcess | undefined;
  #running = false;

  /**
   * Describes a daemon; {@link ManagedProcess.start} starts it.
   *
   * @param description How to start it.
   */
  constructor(description: ProcessDescription) {
    this.#description = description;
  }

  /** Whether it runs. */
  get running(): boolean {
    return this.#running;
  }

  /** Its process id. */
  get pid(): number {
    if (this.#child === undefined) throw new Error(`${this.#description.name} was never started`);
    return this.#child.pid;
  }

  /** Starts it. */
  async start(): Promise<void> {
    const { name, command, env = {}, logPath } = this.#description;
    if (this.#running) throw new Error(`Cannot start ${name}: it runs already`);
    // The shell opens the log and becomes the daemon, so that no pipe has to be served here.
    const child = new Deno.Command("/bin/sh", {
      args: ["-c", 'log=$1; shift; exec "$@" >>"$log" 2>&1', "sh", logPath, ...command],
      env,
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    this.#child = child;
    this.#running = true;
    child.status.then(() => {
      if (this.#child === child) this.#running = false;
    });
    await Deno.writeTextFile(logPath.replace(/(\.log)?$/, ".pid"), await identify(child.pid) ?? "");
  }

  /** Stops it with SIGTERM, or SIGKILL when that takes more than 40 seconds. */
  async stop(): Promise<void> {
    await this.#end("SIGTERM");
  }

  /** Kills it with SIGKILL. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
  }

  /** Everything it wrote so far. */
  async log(): Promise<string> {
    return await Deno.readTextFile(this.#description.logPath).catch(() => "");
  }

  /**
   * The end of its output, under its name.
   *
   * @param lines How many lines.
   */
  async logTail(lines = 30): Promise<string> {
    const text = tail(await this.log(), lines).replace(LONG_LINE, "$1...");
    return `--- ${this.#description.name}\n${text}`;
  }

  /** Sends a signal and waits for the end. */
  async #end(signal: Deno.Signal): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.#running) return;
    child.kill(signal);
    const timer = setTimeout(() => {
      if (this.#running) child.kill("SIGKILL");
    }, STOP_TIMEOUT_MS);
    await child.status;
    this.#running = false;
    clearTimeout(timer);
  }
}
