/**
 * What every run has, wherever it happens: signals on their way, a limit of time, a line that says
 * what takes long, and an exit code at its end.
 *
 * @module
 */

import type { Exit } from "../mod.ts";
import { codeOfExit, codeOfSignal, TIMED_OUT } from "./exit_codes.ts";
import { ForwardedSignals } from "./forwarded_signals.ts";
import { Progress } from "./run_progress.ts";
import { complain } from "./terminal.ts";

/** What a run works with. */
export interface RunContext {
  /** Signals; passed on once there is something that takes them. */
  readonly signals: ForwardedSignals;
  /** The limit of its time. */
  readonly limit: TimeLimit;
  /** Says what takes long. */
  readonly progress: Progress;
  /** Aborted when it is given up, or its time is over. */
  readonly signal: AbortSignal;
}

/** How a run is told of. */
export interface RunTelling {
  /** When it is killed, in milliseconds. */
  readonly timeout?: number;
  /** What is said on a terminal while nothing happens yet. */
  readonly patience: string;
  /** What stands before messages about its end; nothing unless given. */
  readonly label?: string;
}

/** The parts of an end that make an exit code. */
export type RunEnd = Pick<Exit, "status" | "reason" | "message">;

/**
 * Runs something to its end.
 *
 * @param telling See {@link RunTelling}.
 * @param work Runs it; answers how it ended, undefined where it goes on without this command.
 * @returns The exit code.
 */
export async function runWithin(
  { timeout, patience, label }: RunTelling,
  work: (context: RunContext) => Promise<RunEnd | undefined>,
): Promise<number> {
  using signals = new ForwardedSignals();
  using limit = new TimeLimit(timeout);
  using progress = new Progress(patience);
  const signal = AbortSignal.any([signals.startSignal, limit.signal]);
  try {
    const end = await work({ signals, limit, progress, signal });
    if (end === undefined) return 0;
    if (end.reason === "oom" || end.reason === "lost") {
      complain(`${label === undefined ? "" : `${label}: `}${end.message ?? end.reason}`);
    }
    if (limit.isOver && end.reason === "signaled") return TIMED_OUT;
    // A signal that came as it began has killed it: then it counts, not the kill.
    const { givenUpBy } = signals;
    if (givenUpBy !== undefined && end.reason === "signaled") return codeOfSignal(givenUpBy);
    return codeOfExit({ ...end, at: 0 });
  } catch (error) {
    if (signals.givenUpBy !== undefined) return codeOfSignal(signals.givenUpBy);
    if (limit.isOver) return TIMED_OUT;
    throw error;
  }
}

/** Fires after so long, where a limit was given. */
export class TimeLimit implements Disposable {
  readonly #abort = new AbortController();
  readonly #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Begins to count.
   *
   * @param ms How long, in milliseconds; undefined for no limit.
   */
  constructor(ms: number | undefined) {
    if (ms !== undefined) this.#timer = setTimeout(() => this.#abort.abort(), ms);
  }

  /** Aborted when the time is over. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** Whether it is. */
  get isOver(): boolean {
    return this.#abort.signal.aborted;
  }

  /** Counts no more. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
