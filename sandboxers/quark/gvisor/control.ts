/**
 * Our client of the control socket of a gVisor sandbox (`<root>/runsc-<sandbox>.sock`), so that
 * neither a wait for a container nor a signal takes a process of runsc. What it says is described by
 * gVisor's source at release 20240729.0: pkg/urpc, runsc/boot/controller.go and events.go,
 * pkg/sentry/control/proc.go. Other releases may say otherwise: {@link SentryControl.connect} finds
 * out, and runsc's own commands then do the same more slowly.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Json } from "../../lifecycle/spec.ts";
import { type Connect, controlCall, parseAnswer } from "./control_call.ts";

/** What is called. */
const SERVICE = "containerManager";
/** Most processes of a container that are told of. */
const PROCESSES_MAX = 65_536;
/** How long the processes of a container may take to die, in milliseconds. */
const DESTROY_MS = 30_000;
/** How long the first program of a sandbox may take to start, in milliseconds. */
const START_MS = 30_000;

/** How a process in a sandbox has ended. */
export interface SentryExit {
  /** Exit status, 0 to 255; 128 + n after signal n. */
  readonly status: number;
  /** The signal that killed it (signal(7)); missing where it ended by itself. */
  readonly signal?: number;
}

/** Whom a signal goes to. */
export type SignalTarget =
  /** The init process of the container. */
  | "init"
  /** All processes of the container. */
  | "all"
  /** One process, by its id in the sandbox. */
  | { readonly pid: number }
  /** Those in the foreground of the terminal that a process has; the init process with pid 0. */
  | { readonly foregroundOf: number };

/** A process in a sandbox. */
export interface SentryProcess {
  /** Its id in the sandbox: one for all its containers, and not the one that the container sees. */
  readonly pid: number;
  /** Its parent's id; 0 where it has none. */
  readonly parent: number;
  /** Its threads' ids. */
  readonly threads: readonly number[];
  /** The name of its program. */
  readonly command: string;
}

/** What a container uses. */
export interface SentryStats {
  /** CPU time so far by the sandbox's own count, in nanoseconds. */
  readonly cpuNs: number;
  /**
   * Memory in bytes. The sandbox counts for all its containers together: each but the first is given
   * an equal share of it, the first one none.
   */
  readonly memoryBytes: number;
  /** Processes and threads. */
  readonly pids: number;
}

/** What a container is to its sandbox. */
export type SentryState = "created" | "running" | "stopped";

/** How long a call may take. */
interface CallBounds {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

/**
 * Calls a sandbox. It holds no connection between calls; a wait holds one, with some hundred bytes.
 * Calls to a sandbox that has ended fail with `Unavailable`.
 */
export class SentryControl {
  readonly #connect: Connect;

  /**
   * Calls nothing yet; for a runsc that was tried before.
   *
   * @param path The control socket, an absolute path.
   * @param connect Connects to it; see Gate.
   */
  constructor(readonly path: string, connect: Connect) {
    this.#connect = connect;
  }

  /**
   * Finds out whether a sandbox speaks as it is expected here.
   *
   * @param path The control socket, an absolute path.
   * @param connect Connects to it; see Gate.
   * @param signal Ends the attempt.
   * @throws {SandboxError} `Unimplemented` where this runsc speaks otherwise; `Unavailable` where the
   *   sandbox has ended.
   */
  static async connect(
    path: string,
    connect: Connect,
    signal?: AbortSignal,
  ): Promise<SentryControl> {
    const control = new SentryControl(path, connect);
    await control.probe(signal);
    return control;
  }

  /**
   * Makes calls that change nothing and of which the answers are known.
   *
   * @param signal Ends it.
   * @throws {SandboxError} As {@link SentryControl.connect}.
   */
  async probe(signal?: AbortSignal): Promise<void> {
    for (const { method, arg, expected } of PROBES) {
      const action = `cannot use the control socket "${this.path}"`;
      const said = await this.#call(method, arg, action, { signal }).then(
        (result) => `a result, ${JSON.stringify(result).slice(0, 60)}`,
        (error: unknown) => {
          const told = SandboxError.from(error);
          if (told.code !== "Internal" && told.code !== "NotFound") throw told;
          return told.message.slice(action.length + 2);
        },
      );
      if (expected.test(said)) continue;
      throw new SandboxError(
        "Unimplemented",
        `${action}: ${method} answered ${said}: expected what runsc 20240729.0 answers`,
      );
    }
  }

  /**
   * Waits for the end of a container's init process. It may have ended before.
   *
   * @param containerId The container; it was started.
   * @param signal Ends the waiting.
   * @throws {SandboxError} `NotFound`; `FailedPrecondition` where it was not started.
   */
  async wait(containerId: string, signal: AbortSignal): Promise<SentryExit> {
    const action = `cannot wait for container "${containerId}"`;
    const result = await this.#call("Wait", containerId, action, { signal, timeoutMs: Infinity });
    return exitOf(result, action);
  }

  /**
   * Waits for the end of a further process; it may have ended before. Once somebody has waited for its
   * end it is forgotten: wait for each process once, also for one that nobody wants.
   *
   * @param containerId Its container.
   * @param pid Its id, as exec gave it.
   * @param signal Ends the waiting.
   * @throws {SandboxError} `NotFound` where it has ended and somebody has waited for it.
   */
  async waitPid(containerId: string, pid: number, signal: AbortSignal): Promise<SentryExit> {
    const action = `cannot wait for process ${pid} of container "${containerId}"`;
    const arg = waitPidArg(containerId, pid);
    const result = await this.#call("WaitPID", arg, action, { signal, timeoutMs: Infinity });
    return exitOf(result, action);
  }

  /**
   * Sends a signal.
   *
   * @param containerId The container; it was started.
   * @param signalNumber signal(7).
   * @param to Whom to.
   * @param timeoutMs How long it may take, in milliseconds (default: 10 s).
   * @throws {SandboxError} `NotFound` where the process or container has ended.
   */
  async signal(
    containerId: string,
    signalNumber: number,
    to: SignalTarget,
    timeoutMs?: number,
  ): Promise<void> {
    const action = `cannot send signal ${signalNumber} to container "${containerId}"`;
    const arg = { CID: containerId, Signo: signalNumber, PID: targetPid(to), Mode: mode(to) };
    await this.#call("Signal", arg, action, timeoutMs === undefined ? {} : { timeoutMs });
  }

  /**
   * Lists the processes of a container.
   *
   * @param containerId The container; empty for all of the sandbox.
   * @returns Empty for a container that is not there.
   */
  async processes(containerId: string): Promise<readonly SentryProcess[]> {
    const action = `cannot list the processes of container "${containerId}"`;
    const result = await this.#call("Processes", containerId, action, {});
    if (result === null) return [];
    if (!isList(result) || result.length > PROCESSES_MAX) throw strange(action, result);
    return result.map((entry) => {
      const command = field(entry, "cmd");
      return {
        pid: numberOf(field(entry, "pid"), action),
        parent: numberOf(field(entry, "ppid"), action),
        threads: listOf(field(entry, "threads")).map((thread) => numberOf(thread, action)),
        command: typeof command === "string" ? command : "",
      };
    });
  }

  /**
   * Measures what a container uses.
   *
   * @param containerId The container.
   * @throws {SandboxError} `NotFound`.
   */
  async stats(containerId: string): Promise<SentryStats> {
    const action = `cannot measure container "${containerId}"`;
    const result = await this.#call("Event", containerId, action, {});
    const data = field(field(result, "event"), "data");
    if (data === undefined) throw strange(action, result);
    // One of the two is there: a count of the container's own cgroup, or a table of all containers.
    const usage = field(field(field(data, "cpu"), "usage"), "total") ??
      field(field(result, "containerUsage"), containerId) ?? 0;
    return {
      cpuNs: numberOf(usage, action),
      // Zeros are left out.
      memoryBytes: numberOf(field(field(field(data, "memory"), "usage"), "usage") ?? 0, action),
      pids: numberOf(field(field(data, "pids"), "current") ?? 0, action),
    };
  }

  /**
   * Says what a container is.
   *
   * @param containerId The container; one that is not there counts as stopped.
   */
  async state(containerId: string): Promise<SentryState> {
    const action = `cannot look at container "${containerId}"`;
    const result = await this.#call("ContainerRuntimeState", containerId, action, {});
    const state = ([undefined, "created", "running", "stopped"] as const)[numberOf(result, action)];
    if (state === undefined) throw strange(action, result);
    return state;
  }

  /**
   * Starts the first container of a sandbox whose network needs no setting up: all that `runsc start`
   * does then. runsc's own note goes on to say that it was created.
   *
   * @param containerId The container, which is the sandbox's own.
   * @param signal Ends the waiting.
   */
  async startRoot(containerId: string, signal: AbortSignal): Promise<void> {
    const action = `cannot start container "${containerId}"`;
    await this.#call("StartRoot", containerId, action, { signal, timeoutMs: START_MS });
  }

  /**
   * Kills all processes of a container and forgets it. Not for the first container of a sandbox.
   *
   * @param containerId The container.
   * @throws {SandboxError} `NotFound`.
   */
  async destroy(containerId: string): Promise<void> {
    const action = `cannot delete container "${containerId}"`;
    await this.#call("DestroySubcontainer", containerId, action, { timeoutMs: DESTROY_MS });
  }

  /** Stops all processes of the sandbox, of all its containers, until {@link resume}. */
  async pause(): Promise<void> {
    await this.#call("Pause", null, "cannot pause the sandbox", {});
  }

  /** Lets them go on. Once for each {@link pause}. */
  async resume(): Promise<void> {
    await this.#call("Resume", null, "cannot resume the sandbox", {});
  }

  #call(method: string, arg: Json, action: string, bounds: CallBounds): Promise<Json> {
    const { path } = this;
    const call = {
      path,
      connect: this.#connect,
      method: `${SERVICE}.${method}`,
      arg,
      action,
    };
    return controlCall({ ...call, ...bounds });
  }
}

/**
 * What {@link SentryControl.waitPid} sends, for one who asks the same.
 *
 * @param containerId The container.
 * @param pid The process's id, as exec gave it.
 */
export function waitPidRequest(containerId: string, pid: number): string {
  return JSON.stringify({ method: `${SERVICE}.WaitPID`, arg: waitPidArg(containerId, pid) });
}

/**
 * Reads what was answered to that.
 *
 * @param answer The answer, whole.
 * @throws {SandboxError} As {@link SentryControl.waitPid}.
 */
export function waitPidExit(answer: string): SentryExit {
  const action = "cannot wait for a process";
  return exitOf(parseAnswer(answer, action), action);
}

function waitPidArg(containerId: string, pid: number): Json {
  return { PID: pid, CID: containerId };
}

/** Calls that fail for their arguments, before they have any effect; in words that are known. */
const PROBES: readonly {
  readonly method: string;
  readonly arg: Json;
  readonly expected: RegExp;
}[] = [
  {
    method: "WaitPID",
    arg: { PID: 0, CID: "" },
    expected: /^PID \(0\) must be positive$/,
  },
  {
    method: "Signal",
    arg: { CID: "", Signo: 0, PID: -1, Mode: 0 },
    expected: /^PID \(-1\) must be positive$/,
  },
  {
    method: "Wait",
    arg: "",
    expected: /^container "" not found$/,
  },
];

function targetPid(to: SignalTarget): number {
  if (typeof to === "string") return 0;
  return "pid" in to ? to.pid : to.foregroundOf;
}

/** SignalDeliveryMode of runsc/boot/controller.go. */
function mode(to: SignalTarget): number {
  if (to === "all") return 1;
  return typeof to === "object" && "foregroundOf" in to ? 2 : 0;
}

/** A wait status of Linux (wait(2)). */
function exitOf(result: Json, action: string): SentryExit {
  const waitStatus = numberOf(result, action);
  const signal = waitStatus & 0x7f;
  return signal === 0 ? { status: waitStatus >>> 8 & 0xff } : { status: 128 + signal, signal };
}

function field(value: Json | undefined, name: string): Json | undefined {
  if (typeof value !== "object" || value === null || isList(value)) return undefined;
  return Object.hasOwn(value, name) ? value[name] : undefined;
}

function isList(value: Json): value is readonly Json[] {
  return Array.isArray(value);
}

function listOf(value: Json | undefined): readonly Json[] {
  return value !== undefined && isList(value) ? value : [];
}

function numberOf(value: Json | undefined, action: string): number {
  if (typeof value === "number" && value >= 0) return value;
  throw strange(action, value ?? null);
}

function strange(action: string, result: Json): SandboxError {
  const found = JSON.stringify(result).slice(0, 100);
  return new SandboxError(
    "Unimplemented",
    `${action}: the sandbox answered ${found}: expected a result as runsc 20240729.0 gives`,
  );
}
