/**
 * One run of runsc: bounded, cancellable, with its own log, and ended whole where it is given up.
 *
 * @module
 */

import { abortError, SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import { launcherError } from "../../host/launcher_errors.ts";
import { runscError } from "./runsc_log.ts";
import { globalFlags, type RunscOptions } from "./runsc_options.ts";
import { missingRunsc } from "./runsc_version.ts";

/** How long a call may take, in milliseconds, unless the options say otherwise. */
const TIMEOUT_MS = 30_000;

/** How much longer than the launcher's bound is waited, in milliseconds: it says why it gave up. */
const LAUNCHER_MS = 5_000;

/** How long what was killed may take to end, in milliseconds: it may have left its outputs to others. */
const KILLED_MS = 3_000;

/** Exit statuses of the launcher itself are above this and below its double; runsc ends with 128. */
const LAUNCHER_STATUS = 64;

/** Where a process has its standard streams, each the path of a FIFO or file; missing for nowhere. */
export interface RunscStdio {
  /** Standard input. */
  readonly stdin?: string | undefined;
  /** Standard output. */
  readonly stdout?: string | undefined;
  /** Standard error. */
  readonly stderr?: string | undefined;
}

/** How long a call may take. */
export interface RunscCallOptions {
  /** Aborted when the caller gave up: what runs then is killed. */
  readonly signal?: AbortSignal | undefined;
  /** How long it may take, in milliseconds; what runsc's options say, where it is missing. */
  readonly timeoutMs?: number | undefined;
}

/** A call. */
export interface RunscCall extends RunscCallOptions {
  /** What is being done, such as `cannot start container "a"`, for errors. */
  readonly action: string;
  /** The name of the call and its arguments. */
  readonly args: readonly string[];
  /**
   * Descriptors 0 to 2, which runsc hands on to containers; where it is missing, what runsc writes is
   * this call's answer.
   */
  readonly stdio?: RunscStdio;
  /** Whether it starts processes that stay: they must not stay where it is given up. */
  readonly startsProcesses?: boolean;
  /** Whether it must not see /proc/sys/net. */
  readonly isMasked?: boolean;
}

/** How a call ended. */
export interface RunscAnswer {
  /** Its exit status. */
  readonly status: number;
  /** What it wrote to standard output; empty with descriptors of its own. */
  readonly stdout: string;
  /** What it wrote to standard error; with descriptors of its own, what the launcher wrote. */
  readonly stderr: string;
  /** Its log. */
  readonly log: string;
}

/**
 * Runs runsc and takes any other status than 0 for a failure.
 *
 * @param options What the calls have in common.
 * @param call This one.
 * @returns What it wrote to standard output.
 * @throws {SandboxError} As runsc's own words mean; `DeadlineExceeded`; `Cancelled`;
 *   `FailedPrecondition` where runsc or the launcher is missing.
 */
export async function callRunsc(options: RunscOptions, call: RunscCall): Promise<string> {
  const { status, stdout, stderr, log } = await runRunsc(options, call);
  if (status === 0) return stdout;
  throw failure(call.action, { status, stderr, log });
}

/**
 * The error of a run that ended with another status than 0.
 *
 * @param action What was being done.
 * @param answer How it ended.
 */
export function failure(action: string, answer: Omit<RunscAnswer, "stdout">): SandboxError {
  const { status, stderr } = answer;
  const isLaunchers = status > LAUNCHER_STATUS && status < 2 * LAUNCHER_STATUS;
  if (!isLaunchers) return runscError(action, answer);
  const { code, message } = launcherError(action, { code: status, stderr });
  return new SandboxError(code, `${action}: ${message}`);
}

/**
 * Runs runsc to its end, whatever its status.
 *
 * @param options What the calls have in common.
 * @param call This one.
 * @throws {SandboxError} `DeadlineExceeded`; `Cancelled`; `FailedPrecondition` where a program is
 *   missing.
 */
export async function runRunsc(options: RunscOptions, call: RunscCall): Promise<RunscAnswer> {
  const { action, signal, timeoutMs = options.timeoutMs ?? TIMEOUT_MS } = call;
  throwIfAborted(signal, action);
  const log = await logFile(options, call);
  const [program, ...args] = commandLine(options, call, log, timeoutMs);
  try {
    const child = spawn(program, args, action);
    const output = await bounded(child, call, timeoutMs);
    const decoder = new TextDecoder();
    return {
      status: output.code,
      stdout: decoder.decode(output.stdout),
      stderr: decoder.decode(output.stderr),
      log: await Deno.readTextFile(log).catch(() => ""),
    };
  } finally {
    await Deno.remove(log).catch(() => undefined);
  }
}

/**
 * The whole command line of a call: the launcher around runsc where it takes that.
 *
 * @param options What the calls have in common.
 * @param call The call.
 * @param log The file that takes its messages.
 * @param timeoutMs How long it may take, in milliseconds.
 */
export function commandLine(
  options: RunscOptions,
  call: RunscCall,
  log: string,
  timeoutMs: number,
): [string, ...string[]] {
  const { launcher, program } = options;
  const { stdio, isMasked, startsProcesses } = call;
  const words: string[] = [program, ...globalFlags(options, log), ...call.args];
  if (isMasked === true) words.unshift(launcher.path, "netns-mask", "--");
  if (stdio !== undefined) {
    const paths = [stdio.stdin, stdio.stdout, stdio.stderr].map((path) => path ?? "-");
    words.unshift(launcher.path, "stdio", ...paths, "--");
  }
  if (startsProcesses === true && Number.isFinite(timeoutMs)) {
    words.unshift(launcher.path, "bounded", `${Math.ceil(timeoutMs)}`, "--");
  }
  const [first = program, ...rest] = words;
  return [first, ...rest];
}

/** A log of its own, in a directory that is there. */
async function logFile(options: RunscOptions, call: RunscCall): Promise<string> {
  const path = `${options.logs}/${call.args[0] ?? "call"}-${crypto.randomUUID()}.log`;
  try {
    await Deno.mkdir(options.logs, { recursive: true, mode: 0o700 });
    await Deno.writeTextFile(path, "", { createNew: true, mode: 0o600 });
  } catch (error) {
    throw SandboxError.from(error, `${call.action}: cannot make the log "${path}"`);
  }
  return path;
}

function spawn(program: string, args: readonly string[], action: string): Deno.ChildProcess {
  try {
    return new Deno.Command(program, {
      args: [...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      clearEnv: true,
    }).spawn();
  } catch (error) {
    throw missingRunsc(action, program, error);
  }
}

/** Waits for the end, or makes one. */
async function bounded(
  child: Deno.ChildProcess,
  call: RunscCall,
  timeoutMs: number,
): Promise<Deno.CommandOutput> {
  const { action, signal, startsProcesses = false } = call;
  const { promise: givenUp, reject: giveUp } = Promise.withResolvers<never>();
  const onAbort = () => signal && giveUp(abortError(signal, action));
  const late = new SandboxError("DeadlineExceeded", `${action}: no end after ${timeoutMs} ms`);
  const ownMs = timeoutMs + (startsProcesses ? LAUNCHER_MS : 0);
  const timer = Number.isFinite(ownMs) ? setTimeout(() => giveUp(late), ownMs) : undefined;
  signal?.addEventListener("abort", onAbort, { once: true });
  const output = child.output();
  try {
    return await Promise.race([output, givenUp]);
  } catch (reason) {
    // The launcher's bound ends all that was started, and then itself.
    kill(child, startsProcesses ? "SIGTERM" : "SIGKILL");
    const ended = await within(output, startsProcesses ? LAUNCHER_MS : KILLED_MS);
    if (ended === undefined && startsProcesses) kill(child, "SIGKILL");
    // What has ended by itself in the same moment has ended.
    if (ended?.success === true) return ended;
    throw SandboxError.from(reason, action);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

/** What a promise gives in bounded time; undefined where it does not, or fails. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), ms);
  try {
    return await Promise.race([promise.catch(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended.
  }
}
