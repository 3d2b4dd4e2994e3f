/**
 * What can be done to a process: add an exec, start, kill, delete, resize, close its stdin.
 *
 * @module
 */

import { type Container, containerRunning } from "./container.ts";
import {
  mustExist,
  mustHaveTerminals,
  recordExit,
  releaseContainer,
} from "./container_operations.ts";
import type { Core } from "./core.ts";
import type { ContainerHandle, ProcessHandle } from "./driver.ts";
import { abortError, SandboxError } from "./errors.ts";
import { checkId } from "./ids.ts";
import { Process, processRunning } from "./process.ts";
import type { Sandbox } from "./sandbox.ts";
import { linkSignals } from "./signals.ts";
import type { ExecSpec, Exit } from "./spec.ts";

/** signal(7). */
const SIGKILL = 9;
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
    mustExist(container);
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
  const { sandbox, container } = core.container(containerId);
  const process = container.process(execId);
  return await container.queue.run(async () => {
    mustExist(container);
    process.mustBeCreated("start", containerId);
    const handle = startable(container, process);
    const starting = new AbortController();
    using linked = linkSignals(signal, starting.signal, sandbox.life.signal);
    process.starting = starting;
    try {
      if (linked.signal.aborted) throw abortError(linked.signal, "start");
      const started = await launch(handle, process, linked.signal);
      return await adoptStarted(core, sandbox, container, process, started);
    } catch (error) {
      throw SandboxError.from(error, `cannot start ${process.label(containerId)}`);
    } finally {
      process.starting = undefined;
    }
  });
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
  sandbox: Sandbox,
  container: Container,
  process: Process,
  handle: ProcessHandle,
): Promise<number> {
  const { state } = process;
  if (state.kind !== "created") {
    await handle.kill(SIGKILL);
    await handle.exited;
    throw new SandboxError("FailedPrecondition", "it was killed while it started");
  }
  process.state = processRunning(state, handle);
  if (process === container.init && container.state.kind === "created") {
    container.state = containerRunning(container.state);
  }
  core.emit(sandbox, {
    kind: "process-started",
    containerId: container.spec.id,
    execId: process.execId,
    pid: handle.pid,
  });
  core.saveLater(sandbox);
  followExit(core, sandbox, container, process, handle);
  return handle.pid;
}

/** Records a process's exit when the driver tells it; the execs of a dead init die with it. */
export function followExit(
  core: Core,
  sandbox: Sandbox,
  container: Container,
  process: Process,
  handle: ProcessHandle,
): void {
  handle.exited.then((exit) => {
    recordExit(core, sandbox, container, process, exit);
    if (process !== container.init) return;
    for (const exec of container.execs.values()) {
      if (exec.state.kind !== "running") continue;
      exec.state.handle.kill(SIGKILL).catch((error: unknown) =>
        core.log.warn("cannot kill an exec of a stopped container", {
          container: container.spec.id,
          exec: exec.execId,
          error: String(error),
        })
      );
    }
  });
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
  const { sandbox, container } = core.container(containerId);
  const process = container.process(execId);
  if (all && execId === "") {
    const execs = [...container.execs.values()].filter((exec) => exec.state.kind === "running");
    await Promise.all(
      execs.map((exec) => signalProcess(core, { sandbox, container }, exec, signal)),
    );
  }
  await signalProcess(core, { sandbox, container }, process, signal);
}

async function signalProcess(
  core: Core,
  { sandbox, container }: { sandbox: Sandbox; container: Container },
  process: Process,
  signal: number,
): Promise<void> {
  const { state } = process;
  if (state.kind === "created") {
    if (signal === 0) return;
    const exit: Exit = { status: 128 + signal, at: core.clock.now(), reason: "signaled" };
    recordExit(core, sandbox, container, process, exit);
    return;
  }
  await process.mustBeRunning("kill", container.spec.id).handle.kill(signal);
}

/** What a deleted process leaves: its pid and its exit. */
export interface DeletedProcess {
  /** 0 where it never ran. */
  readonly pid: number;
  readonly exit: Exit;
}

/** Deletes an exec that has ended, or (with an empty exec id) a whole container. */
export async function deleteProcess(
  core: Core,
  containerId: string,
  execId: string,
): Promise<DeletedProcess> {
  const { sandbox, container } = core.container(containerId);
  const process = container.process(execId);
  return await container.queue.run(async () => {
    mustExist(container);
    if (container.process(execId) !== process || process.state.kind === "running") {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot delete ${process.label(containerId)}: it is still running, kill it first`,
      );
    }
    if (execId === "") await releaseContainer(core, sandbox, container);
    else removeExec(core, sandbox, container, process);
    const { state } = process;
    if (state.kind !== "exited") {
      throw new SandboxError(
        "Internal",
        `${process.label(containerId)} was deleted without an exit`,
      );
    }
    const { pid, exit } = state;
    core.emit(sandbox, { kind: "process-deleted", containerId, execId, pid, exit });
    if (execId === "") await saveDeletion(core, sandbox);
    return { pid, exit };
  });
}

function removeExec(core: Core, sandbox: Sandbox, container: Container, process: Process): void {
  const at = core.clock.now();
  recordExit(core, sandbox, container, process, { status: 137, at, reason: "lost" });
  container.execs.delete(process.execId);
}

async function saveDeletion(core: Core, sandbox: Sandbox): Promise<void> {
  try {
    if (!sandbox.deleted) await core.save(sandbox);
  } catch (error) {
    // The container is gone; a record that still names it is put right by the next write or start.
    core.log.warn("cannot store state", { sandbox: sandbox.spec.id, error: String(error) });
  }
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
  await handle.resize(columns, rows);
}

/** Closes a process's standard input; one that has ended has none to close. */
export async function closeStdin(core: Core, containerId: string, execId: string): Promise<void> {
  const { state } = core.container(containerId).container.process(execId);
  if (state.kind === "running") await state.handle.closeStdin();
}
