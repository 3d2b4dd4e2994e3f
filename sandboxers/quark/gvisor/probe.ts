/**
 * Tries runsc: runs a tiny container with the flags in question, in a place of its own, and takes all
 * of it away again.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { Launcher } from "../../host/launcher.ts";
import { PROBE_STATUS, probeProgram } from "./probe_program.ts";
import { failure, runRunsc } from "./runsc_call.ts";
import type { NetworkStack, Platform, RunscOptions } from "./runsc_options.ts";

/** What is tried. */
export interface ProbeRun {
  /** How system calls are caught. */
  readonly platform: Platform;
  /** Where the network is. */
  readonly network: NetworkStack;
  /** Whether runsc must not see /proc/sys/net. */
  readonly hidesNetworkSettings?: boolean;
  /** How long it may take, in milliseconds. */
  readonly timeoutMs: number;
}

/** What came out. */
export interface ProbeEnd {
  /** Whether the container ran. */
  readonly works: boolean;
  /** Why it did not, for people; empty where it did. */
  readonly message: string;
  /** Whether the time was over: on a host that is very busy it may work another time. */
  readonly isLate: boolean;
}

/**
 * Tries runsc in one way.
 *
 * @param run See {@link ProbeRun}.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` where a program is missing; `Cancelled`.
 */
export type Probe = (run: ProbeRun, signal: AbortSignal) => Promise<ProbeEnd>;

/** What {@link runscProbe} works with. */
export interface ProbeOptions {
  /** The program `runsc`, an absolute path. */
  readonly program: string;
  /** The host launcher. */
  readonly launcher: Launcher;
  /** Where tries have their files, an absolute path; made where it is missing. */
  readonly directory: string;
}

/**
 * What tries an installed runsc. The container has a network namespace of its own with nothing in it,
 * and stays in this process's cgroups.
 *
 * @param options See {@link ProbeOptions}.
 */
export function runscProbe(options: ProbeOptions): Probe {
  return async (run, signal) => {
    const action = "cannot try runsc";
    throwIfAborted(signal, action);
    const id = `try-${crypto.randomUUID().slice(0, 8)}`;
    const directory = `${options.directory}/${id}`;
    await makeBundle(directory);
    try {
      const answer = await runRunsc(flags(options, run, directory), {
        action,
        args: ["run", `--bundle=${directory}`, id],
        // What it ran with outputs of ours, a sandbox could hold open.
        stdio: {},
        startsProcesses: true,
        isMasked: run.hidesNetworkSettings ?? false,
        signal,
        timeoutMs: run.timeoutMs,
      });
      throwIfAborted(signal, action);
      if (answer.status === PROBE_STATUS) return { works: true, message: "", isLate: false };
      return failed(failure(action, answer), action);
    } catch (error) {
      if (!isLate(error)) throw error;
      return failed(error, action);
    } finally {
      await Deno.remove(directory, { recursive: true }).catch(() => undefined);
    }
  };
}

function failed(error: SandboxError, action: string): ProbeEnd {
  const message = error.message.slice(`${action}: `.length);
  return { works: false, message, isLate: isLate(error) };
}

function isLate(error: unknown): error is SandboxError {
  return error instanceof SandboxError && error.code === "DeadlineExceeded";
}

/** The flags of a try: all that it leaves lies in its directory. */
function flags(options: ProbeOptions, run: ProbeRun, directory: string): RunscOptions {
  const { program, launcher } = options;
  const { platform, network } = run;
  const root = `${directory}/root`;
  return { program, launcher, root, logs: directory, platform, network, ignoresCgroups: true };
}

/** A bundle with a program that ends at once. */
async function makeBundle(directory: string): Promise<void> {
  await Deno.mkdir(`${directory}/rootfs`, { recursive: true, mode: 0o755 });
  await Deno.writeFile(`${directory}/rootfs/probe`, probeProgram(), { mode: 0o755 });
  const namespaces = ["pid", "ipc", "uts", "mount", "network"].map((type) => ({ type }));
  const config = {
    ociVersion: "1.0.2",
    process: {
      user: { uid: 0, gid: 0 },
      args: ["/probe"],
      cwd: "/",
      capabilities: {},
      noNewPrivileges: true,
    },
    root: { path: `${directory}/rootfs`, readonly: true },
    linux: { namespaces },
  };
  await Deno.writeTextFile(`${directory}/config.json`, JSON.stringify(config));
}
