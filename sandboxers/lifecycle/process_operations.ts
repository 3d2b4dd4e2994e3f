/**
 * What can be done to a process: add an exec, start, kill, delete, resize, close its stdin.
 *
 * @module
 */

import { type Container, containerRunning } from "./container.ts";
import { mustHaveTerminals, releaseContainer } from "./container_operations.ts";
import type { Core, Located } from "./core.ts";
import type { ContainerHandle, ProcessHandle } from "./driver.ts";
import { attempt, SandboxError, throwIfAborted } from "./errors.ts";
import { exitOf, followExit, recordExit, SIGKILL } from "./exits.ts";
import { checkId } from "./ids.ts";
import { Process, processRunning } from "./process.ts";
import { linkSignals } from "./signals.ts";
import { type ExecSpec, type Exit, KILLED_STATUS } from "./spec.ts";

/** The highest signal number on Linux. */
const SIGNAL_MAX = 64;

/** Adds an exec to a running container; nothing runs yet. */
export async function addExec(core: Core, containerId: string, spec: ExecSpec): Promise<void> {
  core.mustBeOpen();
  const { sandbox, container } = core.container(containerId);
  if (!core.driver.capabilities.exec) {
    throw new SandboxError(
      "Unimplemented",
      `cannot exec in container "${containerId}": ${core.driver.kind} sandboxes do not support it`,
    );
  }
  checkId("exec id", spec.id);
  if (spec.process.args.length === 0) {
    throw new SandboxError("InvalidArgument", `cannot exec "${spec.id}": process.args is empty`);
  }
  if (spec.stdio.terminal) mustHaveTerminals(core, `exec "${spec.id}"`);
  await container.queue.run(() => {
    container.mustExist();
    if (container.state.kind !== "running") throw container.wrongState("exec in", "running");
    if (container.execs.has(spec.id)) {
      throw new SandboxError(
        "AlreadyExists",
        `exec "${spec.id}" of container "${containerId}" already exists`,
      );
    }
    if (container.execs.size >= core.limits.execsPerContainer) {
      throw new SandboxError(
        "ResourceExhausted",
        `cannot exec "${spec.id}": container "${containerId}" has ` +
          `${core.limits.execsPerContainer} execs, the most allowed`,
      );
    }
    container.execs.set(spec.id, new Process(spec.id, spec.stdio, spec));
    core.emit(sandbox, { kind: "exec-added", containerId, spec });
    core.saveLater(sandbox);
    return Promise.resolve();
  });
}

/**
 * Starts a process: the container's init, or an exec that was added.
 *
 * @returns Its pid.
 */
export async function startProcess(
  core: Core,
  containerId: string,
  execId: string,
  signal?: AbortSignal,
): Promise<number> {
  core.mustBeOpen();
  const located = core.container(containerId);
  const { sandbox, container } = located;
  const process = container.process(execId);
  return await container.queue.run(async () => {
    core.mustBeOpen();
    container.mustExist();
    process.mustBeCreated("start", containerId);
    const handle = startable(container, process);
    const starting = new AbortController();
    using linked = linkSignals(signal, starting.signal, sandbox.life.signal);
    process.starting = starting;
    try {
      return await sandbox.make(bringUp(core, located, process, handle, linked.signal));
    } finally {
      process.starting = undefined;
    }
  });
}

async function bringUp(
  core: Core,
  located: Located,
  process: Process,
  container: ContainerHandle,
  signal: AbortSignal,
): Promise<number> {
  const action = `cannot start ${process.label(located.container.spec.id)}`;
  throwIfAborted(signal, action);
  const operation = process.exec === undefined ? "container_start" : "exec_start";
  const begin = performance.now();
  const handle = await attempt(action, () => launch(container, process, signal), signal);
  core.observer.phase(operation, "driver", begin);
  return await adoptStarted(core, located, process, handle);
}

function startable(container: Container, process: Process): ContainerHandle {
  const wanted = process.exec === undefined ? "created" : "running";
  if (container.state.kind === wanted && container.state.handle !== undefined) {
    return container.state.handle;
  }
  throw container.wrongState(process.exec === undefined ? "start" : "exec in", wanted);
}

function launch(
  handle: ContainerHandle,
  process: Process,
  signal: AbortSignal,
): Promise<ProcessHandle> {
  if (process.exec === undefined) return handle.start(signal);
  if (handle.exec === undefined) {
    throw new SandboxError("Internal", "the driver declares exec but its containers have none");
  }
  return handle.exec(process.exec, signal);
}

/** What the driver has started is ours from here on, unless it was killed in the meantime. */
async function adoptStarted(
  core: Core,
  { sandbox, container }: Located,
  process: Process,
  handle: ProcessHandle,
): Promise<number> {
  const containerId = container.spec.id;
  const { state } = process;
  if (state.kind !== "created") {
    const action = `cannot start ${process.label(containerId)}`;
    await attempt(action, () => handle.kill(SIGKILL));
    await exitOf(core, handle.exited);
    throw new SandboxError("FailedPrecondition", `${action}: it was killed while it started`);
  }
  process.state = processRunning(state, handle);
  if (process === container.init && container.state.kind === "created") {
    container.state = containerRunning(container.state);
  }
  const { execId } = process;
  core.emit(sandbox, { kind: "process-started", containerId, execId, pid: handle.pid });
  followExit(core, sandbox, container, process, handle);
  await core.saveForNext(sandbox);
  return handle.pid;
}

/**
 * Sends a signal to a process. One that was created but not started has nothing to receive it: any
 * signal but 0 ends it.
 *
 * @param all With the init process: its execs get the signal too.
 */
export async function killProcess(
  core: Core,
  containerId: string,
  execId: string,
  signal: number,
  all: boolean,
): Promise<void> {
  if (!Number.isInteger(signal) || signal < 0 || signal > SIGNAL_MAX) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot kill container "${containerId}": signal ${signal}, expected 0 to ${SIGNAL_MAX}`,
    );
  }
  const located = core.container(containerId);
  const process = located.container.process(execId);
  const execs = all && execId === "" ? [...located.container.execs.values()] : [];
  const targets = [...execs.filter((exec) => exec.state.kind === "running"), process];
  // One that cannot be reached does not keep the signal from the others; the last is the one asked for.
  const results = await Promise.allSettled(
    targets.map((target) => signalProcess(core, located, target, signal)),
  );
  const failed = results.findLast((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

async function signalProcess(
  core: Core,
  { sandbox, container }: Located,
  process: Process,
  signal: number,
): Promise<void> {
  const { state } = process;
  if (state.kind === "created") {
    if (signal === 0) return;
    const exit: Exit = { status: 128 + signal, at: core.clock.now(), reason: "signaled" };
    recordExit(core, sandbox, container, process, exit);
    await core.saveForNext(sandbox);
    return;
  }
  const { handle } = process.mustBeRunning("kill", container.spec.id);
  const action = `cannot kill ${process.label(container.spec.id)}`;
  await attempt(action, () => handle.kill(signal));
}

/** What a deleted process leaves: its pid and its exit. */
export interface DeletedProcess {
  /** 0 where it never ran. */
  readonly pid: number;
  /** How it ended. */
  readonly exit: Exit;
}

/** Deletes an exec that has ended, or (with an empty exec id) a whole container. */
export async function deleteProcess(
  core: Core,
  containerId: string,
  execId: string,
): Promise<DeletedProcess> {
  const located = core.container(containerId);
  const { sandbox, container } = located;
  const process = container.process(execId);
  return await container.queue.run(async () => {
    container.mustExist();
    if (process.state.kind === "running") await endDeleted(core, located, process);
    if (execId === "") {
      await releaseContainer(core, sandbox, container);
      await core.saveQuietly(sandbox);
    } else {
      removeExec(core, located, process);
    }
    const { pid, exit } = process.mustHaveExited(containerId);
    return { pid, exit };
  });
}

/**
 * A process that runs cannot be deleted. But one whose start was broken off by the end of an earlier
 * process of ours is deleted by callers who do not know that it runs, and who do not come back: it is
 * killed.
 */
async function endDeleted(
  core: Core,
  { sandbox, container }: Located,
  process: Process,
): Promise<void> {
  const containerId = container.spec.id;
  const action = `cannot delete ${process.label(containerId)}`;
  if (!process.isAdopted) {
    throw new SandboxError("FailedPrecondition", `${action}: it is still running, kill it first`);
  }
  const { handle } = process.mustBeRunning("delete", containerId);
  await attempt(action, () => handle.kill(SIGKILL));
  recordExit(core, sandbox, container, process, await exitOf(core, handle.exited));
}

function removeExec(core: Core, { sandbox, container }: Located, process: Process): void {
  if (container.execs.get(process.execId) !== process) {
    throw new SandboxError("NotFound", `${process.label(container.spec.id)} not found`);
  }
  const at = core.clock.now();
  recordExit(core, sandbox, container, process, { status: KILLED_STATUS, at, reason: "lost" });
  container.execs.delete(process.execId);
  const { pid, exit } = process.mustHaveExited(container.spec.id);
  const { execId } = process;
  core.emit(sandbox, {
    kind: "process-deleted",
    containerId: container.spec.id,
    execId,
    pid,
    exit,
  });
  core.saveLater(sandbox);
}

/** Sets the size of a process's terminal. */
export async function resizeTerminal(
  core: Core,
  containerId: string,
  execId: string,
  columns: number,
  rows: number,
): Promise<void> {
  const process = core.container(containerId).container.process(execId);
  const { handle } = process.mustBeRunning("resize the terminal of", containerId);
  if (!process.stdio.terminal || handle.resize === undefined) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot resize the terminal of ${process.label(containerId)}: it has none`,
    );
  }
  const action = `cannot resize the terminal of ${process.label(containerId)}`;
  await attempt(action, () => handle.resize?.(columns, rows));
}

/** Closes a process's standard input; one that has ended has none to close. */
export async function closeStdin(core: Core, containerId: string, execId: string): Promise<void> {
  const process = core.container(containerId).container.process(execId);
  const { state } = process;
  if (state.kind !== "running") return;
  const action = `cannot close the standard input of ${process.label(containerId)}`;
  await attempt(action, () => state.handle.closeStdin());
}
