/**
 * The exit codes of the command: those of the guest, and beside them those that container tools
 * agree on.
 *
 * @module
 */

import { type ErrorCode, type Exit, SandboxError } from "../mod.ts";
import { UsageError } from "./usage_error.ts";

/** Part of what was asked for could not be done, as the result says. */
export const SOME_FAILED = 1;
/** The command line cannot be understood. */
export const USAGE = 2;
/** What runs took longer than it was allowed to, as timeout(1) has it. */
export const TIMED_OUT = 124;
/** Something other than the module went wrong. */
export const FAILED = 125;
/** The module is there but cannot be run. */
export const NOT_RUNNABLE = 126;
/** There is no such module. */
export const NOT_FOUND = 127;
/** Added to a signal's number. */
const SIGNAL_BASE = 128;
/** A trap ends like abort(3). */
const SIGABRT = 6;
/** What ends a program that writes to a pipe that nobody reads. */
export const SIGPIPE = 13;
/** How it sounds where there is no such program; kinds of sandboxes differ in what they call it. */
const MISSING_PROGRAM = /executable file not found|exec: .*no such file/i;

/** Codes that speak of the module, where the options were checked before. */
const CODES: Partial<Record<ErrorCode, number>> = {
  NotFound: NOT_FOUND,
  InvalidArgument: NOT_RUNNABLE,
  PermissionDenied: NOT_RUNNABLE,
};

/** The exit code for a guest's end. */
export function codeOfExit(exit: Exit): number {
  return exit.reason === "trap" ? SIGNAL_BASE + SIGABRT : exit.status & 0xff;
}

/** The end of a process as the management API tells it. */
export interface WireExit {
  /** Its status; 128 + n after signal n. */
  readonly status: number;
  /** `exited`, `signaled`, `trap`, `oom` or `lost`. */
  readonly reason: string;
  /** Why, for people. */
  readonly message: string;
}

/**
 * The exit code for the end of a process in a sandboxer; what its status does not tell is told.
 *
 * @param exit The end.
 * @param ports Tells on standard error.
 */
export function codeOfWireExit(
  exit: WireExit,
  ports: { complain(message: string): void },
): number {
  const { status, reason, message } = exit;
  if (reason === "oom" || reason === "lost") ports.complain(message === "" ? reason : message);
  return reason === "trap" ? SIGNAL_BASE + SIGABRT : status & 0xff;
}

/** The exit code for having been ended by a signal. */
export function codeOfSignal(signal: number): number {
  return SIGNAL_BASE + signal;
}

/** The exit code for whatever was thrown. */
export function codeOfError(error: unknown): number {
  if (error instanceof UsageError) return USAGE;
  if (!(error instanceof SandboxError)) return FAILED;
  if (MISSING_PROGRAM.test(error.message)) return NOT_FOUND;
  return CODES[error.code] ?? FAILED;
}
