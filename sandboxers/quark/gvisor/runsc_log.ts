/**
 * Turns what runsc says in its log into errors. With `--log-format=json` it writes an object for each
 * message, one after the other, not always with a line feed between.
 *
 * @module
 */

import { type ErrorCode, SandboxError } from "../../lifecycle/errors.ts";

/** A message of runsc. */
export interface RunscMessage {
  /** Its text. */
  readonly text: string;
  /** Such as `error` or `warning`. */
  readonly level: string;
}

/** Most characters of a message that become part of an error. */
const TEXT_CHARACTERS_MAX = 1000;

/** Most characters of a log that are looked at, its end. */
const LOG_CHARACTERS_MAX = 262_144;

/** What runsc's words mean to a caller, the first that fits. `$1` is a group of the pattern. */
const MEANINGS: readonly (readonly [RegExp, ErrorCode, string?])[] = [
  [
    /no host FD available for /,
    "FailedPrecondition",
    "a process that was begun beside a container's first one still had its streams when it was " +
    "saved, and runsc cannot bring it back",
  ],
  // With the stacks of the sentry.
  [
    /((?:encoding|decoding|header) error: .{1,300}?):? goroutine \d/,
    "FailedPrecondition",
    "the sandbox cannot be saved or brought back: $1",
  ],
  [
    /error finding executable "([^"]*)" in PATH/,
    "InvalidArgument",
    'exec: "$1": executable file not found in $PATH',
  ],
  [
    /failed to load (\S+): no such file or directory/,
    "InvalidArgument",
    'exec: "$1": no such file or directory',
  ],
  [
    /failed to load (\S+): (?:permission denied|operation not permitted)/,
    "InvalidArgument",
    'exec: "$1": permission denied',
  ],
  [/failed to load (\S+): (.*)$/, "InvalidArgument", 'exec: "$1": $2'],
  [/failed to find initial working directory/, "InvalidArgument"],
  [
    /invalid container id|unknown signal|invalid signal|error parsing process file/,
    "InvalidArgument",
  ],
  [/mount source already has a filestore file/, "FailedPrecondition"],
  [/container already exists/, "AlreadyExists"],
  [/^loading (?:container|sandbox)\b.*(?:does not exist|no such file)/, "NotFound"],
  [/cannot load sandbox: .*no such file/, "NotFound"],
  [/no such process/, "NotFound"],
  [/no space left on device|disk quota exceeded/, "ResourceExhausted"],
  [/cannot allocate memory|too many open files|resource temporarily/, "ResourceExhausted"],
  [/\bin state (?:creating|created|running|paused|stopped)\b/, "FailedPrecondition"],
  [/not started$|sandbox is not running|without --force flag/, "FailedPrecondition"],
  [/connecting to control server|no longer running/, "FailedPrecondition"],
  [/cannot run with network enabled in root network namespace/, "FailedPrecondition"],
  [/more than one default route found/, "FailedPrecondition"],
  [/unknown platform|for platform|\/dev\/kvm/, "FailedPrecondition"],
  [/configuring cgroup|cannot set up cgroup/, "FailedPrecondition"],
  [/reading spec|no such file or directory/, "InvalidArgument"],
  [/permission denied|operation not permitted/, "PermissionDenied"],
];

/**
 * Reads a log.
 *
 * @param log What was written, perhaps cut off.
 * @returns The messages that are whole, the oldest first.
 */
export function parseRunscLog(log: string): RunscMessage[] {
  const text = log.slice(-LOG_CHARACTERS_MAX);
  const object = /\{(?:[^{}"]|"(?:[^"\\]|\\.)*")*\}/g;
  return [...text.matchAll(object)].flatMap(([json]) => {
    try {
      const value: unknown = JSON.parse(json);
      return isMessage(value) ? [{ text: value.msg, level: value.level }] : [];
    } catch {
      return [];
    }
  });
}

/**
 * The error of a call that failed.
 *
 * @param action What was being done, such as `cannot start container "a"`.
 * @param failure Its exit status, its log, and what it wrote to standard error, where that was seen.
 */
export function runscError(
  action: string,
  failure: { readonly status: number; readonly log: string; readonly stderr?: string },
): SandboxError {
  const messages = parseRunscLog(failure.log);
  const last = messages.findLast(({ level }) => level === "error" || level === "fatal");
  const text = (last ?? messages.at(-1))?.text ?? lastWords(failure.stderr ?? "");
  const context = { status: failure.status };
  if (text === "") {
    const message = `${action}: runsc ended with ${failure.status} and said nothing`;
    return new SandboxError("Internal", message, { context });
  }
  const { code, words } = meaning(text);
  return new SandboxError(code, `${action}: ${words.slice(0, TEXT_CHARACTERS_MAX)}`, { context });
}

/**
 * What runsc's words mean.
 *
 * @param text Its message, as its log or its control socket has it.
 * @returns A code, and words that people know from other runtimes where there are such.
 */
export function meaning(text: string): { readonly code: ErrorCode; readonly words: string } {
  const line = text.trim().replaceAll(/\s+/g, " ");
  for (const [pattern, code, words] of MEANINGS) {
    const found = pattern.exec(line);
    if (found === null) continue;
    if (words === undefined) return { code, words: line };
    return { code, words: words.replaceAll(/\$(\d)/g, (_, group) => found[Number(group)] ?? "") };
  }
  return { code: "Internal", words: line };
}

/** What a program that has written no log said. */
function lastWords(stderr: string): string {
  const lines = stderr.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  // A wrong flag is followed by the whole help.
  const usage = lines.findIndex((line) => line.startsWith("Usage:"));
  return lines.slice(0, usage === -1 ? undefined : usage).slice(-3).join("; ");
}

function isMessage(value: unknown): value is { readonly msg: string; readonly level: string } {
  return typeof value === "object" && value !== null && "msg" in value && "level" in value &&
    typeof value.msg === "string" && typeof value.level === "string";
}
