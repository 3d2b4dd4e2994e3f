/**
 * A further process in a container of gVisor, without a process of runsc: `runsc exec` takes tens of
 * milliseconds, and one that is to stay costs megabytes for as long as its process lives. The
 * launcher asks the sandbox, as only it can send descriptors (containerManager.ExecuteAsync; see
 * pkg/sentry/control/proc.go of gVisor, release 20240729.0).
 *
 * @module
 */

import type { HandedStdio } from "../../host/handed_stdio.ts";
import type { Launcher } from "../../host/launcher.ts";
import { launcherError } from "../../host/launcher_errors.ts";
import { spawnPiped } from "../../host/resident.ts";
import { abortError, SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { Json, ProcessSpec } from "../../lifecycle/spec.ts";
import { DEFAULT_CAPABILITIES } from "../../oci/process.ts";
import { capabilityBits } from "./capability_sets.ts";
import type { SentryControl } from "./control.ts";
import { parseAnswer } from "./control_call.ts";

/** How long the sandbox may take, in milliseconds. */
const EXEC_MS = 60_000;
const SIGKILL = 9;
/** How long the end of a process is waited for that nobody wants any more, in milliseconds. */
const KILLED_MS = 5_000;

/** A process to start. */
export interface SentryExec {
  /** Sends the descriptors. */
  readonly launcher: Launcher;
  /** The sandbox. */
  readonly control: SentryControl;
  /** The container, which runs. */
  readonly containerId: string;
  /**
   * What to run. gVisor gives a further process the resource limits of the sandbox's first one, and
   * the umask 022, whatever is said here.
   */
  readonly process: ProcessSpec;
  /** Its streams. */
  readonly stdio: Pick<HandedStdio, "descriptors" | "consoleSocket">;
  /** Whether processes may keep CAP_NET_RAW: runsc's `--net-raw`. */
  readonly netRaw: boolean;
}

/**
 * Starts a process.
 *
 * @param exec See {@link SentryExec}.
 * @param signal Aborted when the caller gave up; the process is then killed when it is there. A
 *   sandbox that is paused starts one only when it is resumed.
 * @returns Its id in the sandbox, for {@link SentryControl.waitPid}.
 * @throws {SandboxError} `InvalidArgument` where its program is not there; `NotFound` for a container
 *   that is not; `FailedPrecondition` where that has ended or was not started; `Unavailable` where
 *   the sandbox has ended; `Cancelled`.
 */
export async function sentryExec(exec: SentryExec, signal: AbortSignal): Promise<number> {
  const { control, containerId, stdio, launcher } = exec;
  const action = `cannot run a process in container "${containerId}"`;
  throwIfAborted(signal, action);
  const streams = stdio.consoleSocket === undefined
    ? ["stdio", ...stdio.descriptors]
    : ["terminal", stdio.consoleSocket];
  const request = { method: "containerManager.ExecuteAsync", arg: execArgs(exec) };
  const args = ["sentry-exec", control.path, ...streams];
  const started = ask(launcher.path, args, JSON.stringify(request), action).then((answer) => {
    const pid = parseAnswer(answer, action);
    if (typeof pid === "number") return pid;
    throw new SandboxError("Unimplemented", `${action}: the sandbox named no process`);
  });
  const { promise: interrupted, reject } = Promise.withResolvers<never>();
  const onAbort = () => {
    // What was asked for cannot be taken back: it is killed as soon as it is there.
    void started.then((pid) => killUnwanted(exec, pid), () => undefined);
    reject(abortError(signal, action));
  };
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([started, interrupted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

async function killUnwanted({ control, containerId }: SentryExec, pid: number): Promise<void> {
  await control.signal(containerId, SIGKILL, { pid }).catch(() => undefined);
  await control.waitPid(containerId, pid, AbortSignal.timeout(KILLED_MS)).catch(() => undefined);
}

/** `control.ExecArgs` of gVisor. */
function execArgs({ containerId, process, stdio, netRaw }: SentryExec): Json {
  const { args, env, cwd, user, capabilities = DEFAULT_CAPABILITIES } = process;
  const except = netRaw ? [] : ["CAP_NET_RAW"];
  return {
    argv: args,
    envv: env,
    wd: cwd,
    KUID: user.uid,
    KGID: user.gid,
    ExtraKGIDs: user.additionalGids,
    Capabilities: {
      BoundingCaps: capabilityBits(capabilities.bounding, except),
      EffectiveCaps: capabilityBits(capabilities.effective, except),
      InheritableCaps: capabilityBits(capabilities.inheritable, except),
      PermittedCaps: capabilityBits(capabilities.permitted, except),
    },
    StdioIsPty: stdio.consoleSocket !== undefined,
    GuestFDs: [0, 1, 2],
    ContainerID: containerId,
  };
}

/** Runs the launcher with a request, which may have secrets in it, on its standard input. */
async function ask(
  command: string,
  args: readonly string[],
  request: string,
  action: string,
): Promise<string> {
  const child = spawnPiped(command, args, action);
  const timer = setTimeout(() => child.kill("SIGKILL"), EXEC_MS);
  try {
    const [{ code, stdout, stderr }] = await Promise.all([child.output(), write(child, request)]);
    const decoder = new TextDecoder();
    if (code !== 0) throw askError(launcherError(action, { code, stderr: decoder.decode(stderr) }));
    const answer = decoder.decode(stdout);
    if (answer !== "") return answer;
    throw new SandboxError("Unavailable", `${action}: the sandbox has ended`);
  } finally {
    clearTimeout(timer);
  }
}

/** A socket that nobody serves any more is the sandbox's end. */
function askError(error: SandboxError): SandboxError {
  const isGone = /^cannot (connect|send) to .*: (ECONNREFUSED|ENOENT|ECONNRESET|EPIPE)$/;
  if (!isGone.test(error.message)) return error;
  return new SandboxError("Unavailable", `${error.message}: the sandbox has ended`);
}

async function write(child: Deno.ChildProcess, text: string): Promise<void> {
  try {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch {
    // It ended before it had read all; it says why.
  }
}
