/**
 * Starts Quark for a sandbox: the program says which process stays, and ends.
 *
 * Source: kuasar-io/kuasar quark/src/sandbox.rs (start); QuarkContainer/Quark
 * qvisor/src/runc/cmd/sandbox.rs.
 *
 * @module
 */

import { spawnConfined } from "../../host/confined.ts";
import type { ProcessIdentity } from "../../host/launcher.ts";
import type { ResidentProcess } from "../../host/resident.ts";
import { abortError, SandboxError } from "../../lifecycle/errors.ts";
import type { PodPlaces } from "./names.ts";
import type { QuarkOptions } from "./options.ts";

/** How much of what Quark wrote is put into an error, in characters. */
const LOG_CHARS = 600;
/** How much of its log is read for that, in bytes. */
const LOG_BYTES = 4_096;
/** How long the program may take until the sandbox is on its own, in milliseconds. */
const LAUNCH_MS = 30_000;
/** How long the program may take to end once nobody waits for it, in milliseconds. */
const GIVE_UP_MS = 3_000;
/** Where Quark itself writes more. Source: qvisor/src/main.rs. */
const OWN_LOG = "/var/log/quark/quark.log";

/** What is started. */
export interface Launch {
  /** Where. */
  readonly places: PodPlaces;
  /** What Quark calls the sandbox. */
  readonly name: string;
  /** Its cgroup below each hierarchy's root; empty for none. */
  readonly cgroup: string;
}

/**
 * Runs the program until the sandbox's process is on its own.
 *
 * @param options What pods are made with.
 * @param launch See {@link Launch}.
 * @param signal Aborted when the caller gave up.
 * @returns The process that stays; nobody's child.
 * @throws {SandboxError} `FailedPrecondition` where the program is missing or is not safe to run;
 *   `Internal` where it fails, with what it wrote; `DeadlineExceeded`, `Cancelled`.
 */
export async function launchQuark(
  options: QuarkOptions,
  launch: Launch,
  signal: AbortSignal,
): Promise<ProcessIdentity> {
  const { launcher, program } = options;
  const { places, name, cgroup } = launch;
  const action = `cannot run "${program}"`;
  const child = await spawnConfined(launcher, {
    program,
    args: [
      ...["-r", places.bundle, "sandbox", "--task-socket", places.socket],
      ...["--id", name, "--pid-file", places.pidFile],
    ],
    directory: places.bundle,
    log: places.log,
    user: undefined,
    network: "host",
    cgroup,
    // It mounts, enters the pod's network namespace and makes itself a root directory.
    capabilities: "all",
  }, signal);
  const { code, reason } = await endOf(child, action, signal);
  if (reason !== undefined) {
    const kernel = await readPid(options, places);
    if (kernel !== undefined) await launcher.kill(kernel);
    throw reason;
  }
  if (code !== 0) throw await launchError(`${action}: it ended with status ${code}`, places);
  const kernel = await readPid(options, places);
  if (kernel === undefined) throw await launchError(`${action}: its sandbox has ended`, places);
  return kernel;
}

/**
 * Waits for the end of the program. It is not killed at once where nobody waits for it any more: only
 * it can say which process it has started.
 */
async function endOf(
  child: ResidentProcess,
  action: string,
  signal: AbortSignal,
): Promise<{ readonly code: number; readonly reason: SandboxError | undefined }> {
  let reason: SandboxError | undefined;
  const timers: ReturnType<typeof setTimeout>[] = [];
  const giveUp = (error: SandboxError) => {
    reason ??= error;
    timers.push(setTimeout(() => child.kill("SIGKILL"), GIVE_UP_MS));
  };
  const late = new SandboxError("DeadlineExceeded", `${action}: no end in ${LAUNCH_MS} ms`);
  timers.push(setTimeout(() => giveUp(late), LAUNCH_MS));
  const onAbort = () => giveUp(abortError(signal, action));
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  const { code } = await child.status;
  for (const timer of timers) clearTimeout(timer);
  signal.removeEventListener("abort", onAbort);
  return { code, reason };
}

/**
 * Says which process a pid file names.
 *
 * @returns Undefined where there is no such file or process.
 * @throws {SandboxError} `Internal` for a file that has something else in it.
 */
export async function readPid(
  { launcher }: Pick<QuarkOptions, "launcher">,
  { pidFile }: PodPlaces,
): Promise<ProcessIdentity | undefined> {
  let text: string;
  try {
    text = await Deno.readTextFile(pidFile);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw SandboxError.from(error, `cannot read "${pidFile}"`);
  }
  const pid = /^\s*(\d{1,9})\s*$/.exec(text)?.[1];
  if (pid === undefined || Number(pid) < 2) {
    const found = JSON.stringify(text.slice(0, 40));
    throw new SandboxError(
      "Internal",
      `cannot use "${pidFile}": found ${found}, expected the id of Quark's process`,
    );
  }
  return await launcher.identify(Number(pid));
}

/**
 * An error with the last words of Quark.
 *
 * @param what What went wrong.
 * @param places Where its log is.
 */
export async function launchError(what: string, places: PodPlaces): Promise<SandboxError> {
  const words = await lastWords(places);
  const seen = words === "" ? "it wrote nothing" : words;
  return new SandboxError("Internal", `${what}: ${seen} (there may be more in ${OWN_LOG})`);
}

/** The end of what Quark wrote, in one line; empty where there is nothing. */
export async function lastWords({ log }: PodPlaces): Promise<string> {
  try {
    using file = await Deno.open(log);
    const { size } = await file.stat();
    await file.seek(Math.max(0, size - LOG_BYTES), Deno.SeekMode.Start);
    const bytes = new Uint8Array(LOG_BYTES);
    const length = await file.read(bytes) ?? 0;
    const text = new TextDecoder().decode(bytes.subarray(0, length));
    return text.trim().replaceAll(/\s+/g, " ").slice(-LOG_CHARS);
  } catch {
    return "";
  }
}
