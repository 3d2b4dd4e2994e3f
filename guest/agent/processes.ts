/**
 * The agent's children: every process that ends is reaped here, whoever started it, and whoever
 * waits for it is told. Also runs the short programs that the agent needs, such as crun.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import { must, systemError } from "./errno.ts";
import {
  CLOCK_REALTIME,
  EPOLLET,
  EPOLLIN,
  SIGKILL,
  SPAWN_DIE_WITH_AGENT,
  SPAWN_SESSION,
} from "./linux.ts";
import { after, type Watch, watch } from "./loop.ts";
import * as sys from "./sys.js";

/** How a child ended. */
export interface ChildExit {
  /** Its process id, which may be used again by now. */
  readonly pid: number;
  /** 0 to 255; 128 + n after signal n. */
  readonly status: number;
  /** Whether a signal ended it. */
  readonly signaled: boolean;
  /** When it was reaped, in milliseconds since the epoch. */
  readonly atMs: number;
}

/** Exits that nobody has asked for yet; the oldest goes when there are more. */
const UNCLAIMED_MAX = 512;
/** What is kept of each output of a program that {@link run} runs, in bytes. */
const OUTPUT_BYTES_MAX = 64 * 1024;
/** Reads in a row, 4 KiB each; more than a pipe holds. */
const READS_MAX = 32;
/** How long a program may take unless said otherwise, in milliseconds. */
const RUN_TIMEOUT_MS = 60_000;

const waiting = new Map<number, (exit: ChildExit) => void>();
const unclaimed = new Map<number, ChildExit>();

/** Begins to reap; once, before the first child is started. */
export function startReaping(): void {
  const fd = must("cannot watch for children", sys.childSignalFd());
  if (sys.getpid() !== 1) must("cannot take orphans over", sys.setSubreaper());
  const buffer = new ArrayBuffer(128 * 16);
  watch(fd, EPOLLIN, () => {
    // First the signal, then the children: one that ends in between signals again.
    while (sys.read(fd, buffer, 0, buffer.byteLength) > 0) continue;
    reapAll();
  });
  reapAll();
}

/** Reaps what has ended; the batch is bounded, the rest comes in the loop's next turn. */
function reapAll(): void {
  const ended = sys.reap();
  if (ended.length === 0) return;
  const atMs = Math.round(sys.clock(CLOCK_REALTIME));
  for (let i = 0; i + 2 < ended.length; i += 3) {
    const pid = ended[i] ?? 0;
    note({ pid, status: ended[i + 1] ?? 0, signaled: ended[i + 2] === 1, atMs });
  }
  after(0, reapAll);
}

function note(exit: ChildExit): void {
  const told = waiting.get(exit.pid);
  if (told !== undefined) {
    waiting.delete(exit.pid);
    told(exit);
    return;
  }
  unclaimed.delete(exit.pid);
  unclaimed.set(exit.pid, exit);
  if (unclaimed.size > UNCLAIMED_MAX) {
    for (const oldest of unclaimed.keys()) {
      unclaimed.delete(oldest);
      break;
    }
  }
}

/**
 * Waits for the end of a child. It may have been started by somebody else, and become the agent's
 * when its parent ended; it may have ended already.
 *
 * @param pid The process.
 * @param ended Called once, never before this returns.
 * @throws AgentError `AlreadyExists` where somebody waits for it already; `NotFound` where there is
 *   no such process and none has ended lately.
 */
export function watchChild(pid: number, ended: (exit: ChildExit) => void): void {
  if (waiting.has(pid)) throw new AgentError("AlreadyExists", `process ${pid} is watched already`);
  const exit = unclaimed.get(pid);
  unclaimed.delete(pid);
  // Where the process is there, an exit under its number is that of an earlier one.
  if (sys.kill(pid, 0) >= 0) {
    waiting.set(pid, ended);
    return;
  }
  if (exit === undefined) throw new AgentError("NotFound", `cannot find process ${pid}`);
  after(0, () => ended(exit));
}

/** How many processes are waited for; for tests and logs. */
export function watchedChildren(): number {
  return waiting.size;
}

/** A program to start. */
export interface Program {
  /** The program, by PATH of `env` where it has no slash, and its arguments. */
  readonly argv: readonly string[];
  /** `NAME=value` each; only PATH unless given. */
  readonly env?: readonly string[];
  /** Its working directory; the agent's unless given. */
  readonly cwd?: string;
  /** The agent's descriptors for 0..n-1 of the program; -1 is /dev/null. */
  readonly fds: readonly number[];
  /** SPAWN_* of `linux.ts`; SPAWN_SESSION unless given. */
  readonly flags?: number;
}

/** The environment of programs that bring none. */
const DEFAULT_ENV = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/**
 * Starts a program.
 *
 * @param program What, and how.
 * @param ended Called once it has ended.
 * @returns Its process id.
 * @throws AgentError Where it cannot be executed: `NotFound`, or as the errno says.
 */
export function start(program: Program, ended: (exit: ChildExit) => void): number {
  const { argv, env = DEFAULT_ENV, cwd = null, fds, flags = SPAWN_SESSION } = program;
  const pid = sys.spawn(argv, env, cwd, fds, flags);
  if (pid < 0) throw systemError(`cannot execute "${argv[0] ?? ""}"`, pid);
  waiting.set(pid, ended);
  return pid;
}

/** A program to run to its end. */
export interface RunOptions extends Omit<Program, "fds"> {
  /**
   * The agent's descriptors for 0..n-1 of the program. Where they are given nothing is captured.
   * Give them where something that the program leaves behind inherits them.
   */
  readonly fds?: readonly number[];
  /** After how long it is killed, in milliseconds; 60,000 unless given. */
  readonly timeoutMs?: number;
}

/** How a program that was run has ended. */
export interface RunResult extends ChildExit {
  /** What it wrote to its output, the first 64 KiB. */
  readonly output: string;
  /** What it wrote to its error output, the first 64 KiB. */
  readonly errorOutput: string;
  /** Whether it was killed as it took too long. */
  readonly timedOut: boolean;
}

/**
 * Runs a program to its end. Its input is empty.
 *
 * @param options What, and how.
 * @throws AgentError Where it cannot be executed.
 */
export function run(options: RunOptions): Promise<RunResult> {
  const captures = options.fds === undefined ? [new Capture(), new Capture()] : [];
  const fds = options.fds ?? [-1, ...captures.map((capture) => capture.childEnd)];
  const flags = options.flags ?? (SPAWN_SESSION | SPAWN_DIE_WITH_AGENT);
  return new Promise((resolve, reject) => {
    let timedOut = false;
    try {
      const pid = start({ ...options, fds, flags }, (exit) => {
        timer.cancel();
        const [output = "", errorOutput = ""] = captures.map((capture) => capture.finish());
        resolve({ ...exit, output, errorOutput, timedOut });
      });
      const timer = after(options.timeoutMs ?? RUN_TIMEOUT_MS, () => {
        timedOut = true;
        sys.kill(pid, SIGKILL);
      });
    } catch (thrown) {
      for (const capture of captures) capture.finish();
      reject(thrown);
    } finally {
      for (const capture of captures) capture.closeChildEnd();
    }
  });
}

/** Keeps the beginning of what comes out of a pipe, and reads the rest away. */
class Capture {
  readonly childEnd: number;
  #childEndOpen = true;
  #readEnd: number;
  #watch: Watch | undefined;
  #text = "";
  #bytes = 0;
  readonly #buffer = new ArrayBuffer(4096);

  constructor() {
    const pair = sys.pipe(0);
    if (typeof pair === "number") throw systemError("cannot make a pipe", pair);
    [this.#readEnd, this.childEnd] = pair;
    must("cannot make a pipe", sys.setNonblocking(this.#readEnd));
    this.#watch = watch(this.#readEnd, EPOLLIN | EPOLLET, () => this.#read());
  }

  closeChildEnd(): void {
    if (this.#childEndOpen) sys.close(this.childEnd);
    this.#childEndOpen = false;
  }

  /** Takes what is there, without waiting for the end: somebody else may hold the pipe open. */
  finish(): string {
    this.#read();
    this.#close();
    return this.#text;
  }

  #read(): void {
    for (let turn = 0; this.#watch !== undefined; turn++) {
      if (turn === READS_MAX) {
        after(0, () => this.#read());
        return;
      }
      const count = sys.read(this.#readEnd, this.#buffer, 0, this.#buffer.byteLength);
      if (count === 0) this.#close();
      if (count <= 0) return;
      if (this.#bytes < OUTPUT_BYTES_MAX) this.#text += sys.decodeUtf8(this.#buffer, 0, count);
      this.#bytes += count;
    }
  }

  #close(): void {
    if (this.#watch === undefined) return;
    this.#watch.stop();
    this.#watch = undefined;
    sys.close(this.#readEnd);
  }
}
