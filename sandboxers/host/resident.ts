/**
 * Processes that the launcher starts and that stay: what they say before they begin, and how they are
 * held. They outlive this process.
 *
 * @module
 */

import { abortError, SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { ProcessIdentity } from "./launcher.ts";
import { launcherError } from "./launcher_errors.ts";

/** How long the launcher may take until the program begins, in milliseconds. */
const START_MS = 20_000;

/** A process that stays; it is a child of this process. */
export interface ResidentProcess {
  /** Which process it is: for records, and for later sandboxers. */
  readonly identity: ProcessIdentity;
  /** Settles when it has ended. */
  readonly status: Promise<Deno.CommandStatus>;
  /** Sends a signal; does nothing where it has ended. */
  kill(signal: Deno.Signal): void;
  /** Lets this process end without waiting for it. */
  unref(): void;
}

/**
 * Starts the launcher with a verb that stays. It says `started` and its start time on standard output
 * and closes both outputs when it begins.
 *
 * @param command The launcher.
 * @param args The verb with its arguments.
 * @param action What is being done, for errors.
 * @param signal Aborted when the caller gave up before it has begun.
 * @throws {SandboxError} As the launcher says; `Cancelled`; `DeadlineExceeded`. Then nothing runs.
 */
export async function startResident(
  command: string,
  args: readonly string[],
  action: string,
  signal?: AbortSignal,
): Promise<ResidentProcess> {
  throwIfAborted(signal, action);
  const child = spawnPiped(command, args, action, "null");
  let late: SandboxError | undefined;
  const giveUp = (reason: SandboxError) => {
    late = reason;
    kill(child, "SIGKILL");
  };
  const timer = setTimeout(
    () => giveUp(new SandboxError("DeadlineExceeded", `${action}: no start in ${START_MS} ms`)),
    START_MS,
  );
  const onAbort = () => signal && giveUp(abortError(signal, action));
  signal?.addEventListener("abort", onAbort, { once: true });
  try {
    // Both end when the program begins: it has none of the launcher's descriptors.
    const [stdout, stderr] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
    ]);
    const startTime = /^started (\d+)\n$/.exec(stdout)?.[1];
    if (late === undefined && startTime !== undefined && stderr === "") {
      return held(child, Number(startTime));
    }
    kill(child, "SIGKILL");
    const { code } = await child.status;
    throw late ?? launcherError(action, { code, stderr });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

function held(child: Deno.ChildProcess, startTime: number): ResidentProcess {
  return {
    identity: { pid: child.pid, startTime },
    status: child.status,
    kill: (name) => kill(child, name),
    unref: () => child.unref(),
  };
}

/**
 * Starts the launcher, with pipes for what it says and without an environment.
 *
 * @param command The launcher's path.
 * @param args The verb with its arguments.
 * @param action What is being done, for errors.
 * @param stdin Whether it is told something too.
 * @throws {SandboxError} `FailedPrecondition` where the launcher was not built.
 */
export function spawnPiped(
  command: string,
  args: readonly string[],
  action: string,
  stdin: "piped" | "null" = "piped",
): Deno.ChildProcess {
  try {
    return new Deno.Command(command, {
      args: [...args],
      stdin,
      stdout: "piped",
      stderr: "piped",
      clearEnv: true,
    }).spawn();
  } catch (error) {
    throw spawnError(error, command, action);
  }
}

function spawnError(thrown: unknown, command: string, action: string): SandboxError {
  if (!(thrown instanceof Deno.errors.NotFound)) return SandboxError.from(thrown, action);
  return new SandboxError(
    "FailedPrecondition",
    `${action}: no host launcher at "${command}": run "deno task setup"`,
    { cause: thrown },
  );
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended.
  }
}
