/**
 * What a signal does to a guest. WASI preview 1 has no signal handlers, so what counts is the
 * default action of each signal: signal(7).
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** Highest signal number on Linux (SIGRTMAX). */
const SIGNAL_MAX = 64;

/** SIGCHLD, SIGCONT, SIGURG, SIGWINCH: ignored without a handler. */
const IGNORED: ReadonlySet<number> = new Set([17, 18, 23, 28]);
/** SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU: would stop a process. */
const STOPPING: ReadonlySet<number> = new Set([19, 20, 21, 22]);

/**
 * Tells what to do with a signal for a guest.
 *
 * @param signal The number; 0 only asks whether the guest can be signalled.
 * @throws {SandboxError} `InvalidArgument` for a number that is no signal; `Unimplemented` for one
 *   that stops a process, because a guest cannot be paused.
 */
export function signalAction(signal: number): "ignore" | "terminate" {
  if (!Number.isInteger(signal) || signal < 0 || signal > SIGNAL_MAX) {
    throw new SandboxError("InvalidArgument", `cannot send signal ${signal}: expected 0 to 64`);
  }
  if (STOPPING.has(signal)) {
    throw new SandboxError(
      "Unimplemented",
      `cannot send signal ${signal}: a wasm guest cannot be stopped and continued`,
    );
  }
  return signal === 0 || IGNORED.has(signal) ? "ignore" : "terminate";
}
