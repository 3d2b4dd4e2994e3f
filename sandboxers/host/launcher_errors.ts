/**
 * What the host launcher says when it fails: the last line of its standard error begins with an
 * error code, as `NotFound: cannot mount "/a" at "/b": No such file or directory`.
 *
 * @module
 */

import { type ErrorCode, SandboxError, STATUS_NUMBER } from "../lifecycle/errors.ts";

/** The launcher's exit status for an error code is this and the code's number. */
const STATUS_BASE = 64;
/** Most characters of foreign text in a message. */
const TEXT_LENGTH_MAX = 500;

/** How a run of the launcher ended. */
export interface LauncherFailure {
  /** Its exit status. */
  readonly code: number;
  /** What it wrote to standard error. */
  readonly stderr: string;
}

/**
 * Turns a failed run into an error.
 *
 * @param action What was being done, for a failure that the launcher did not put into words.
 * @param failure How it ended.
 * @returns The error with the launcher's own code and words; `Internal` where it died without a word.
 */
export function launcherError(action: string, failure: LauncherFailure): SandboxError {
  const lines = failure.stderr.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const [, name = "", message = ""] = /^([A-Za-z]+): (.*)$/.exec(lines.at(-1) ?? "") ?? [];
  if (isErrorCode(name) && failure.code === STATUS_BASE + STATUS_NUMBER[name]) {
    // What a program said that the launcher ran comes before the launcher's own line.
    const before = lines.slice(0, -1).join("; ").slice(0, TEXT_LENGTH_MAX);
    return new SandboxError(name, before === "" ? message : `${message}: ${before}`);
  }
  const text = lines.join("; ").slice(0, TEXT_LENGTH_MAX);
  return new SandboxError(
    "Internal",
    `${action}: the host launcher ended with ${failure.code}${text === "" ? "" : `: ${text}`}`,
  );
}

function isErrorCode(name: string): name is ErrorCode {
  return Object.hasOwn(STATUS_NUMBER, name);
}
