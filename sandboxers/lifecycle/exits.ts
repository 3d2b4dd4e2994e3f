/**
 * How processes end, for the lifecycle: the one place where an exit is recorded and told, and what
 * follows from it.
 *
 * @module
 */

import { type Container, containerStopped } from "./container.ts";
import type { Core } from "./core.ts";
import type { ProcessHandle } from "./driver.ts";
import { attempt, SandboxError } from "./errors.ts";
import { type Process, processExited } from "./process.ts";
import type { Sandbox } from "./sandbox.ts";
import { type Exit, KILLED_STATUS, LOST_STATUS } from "./spec.ts";

/** signal(7). */
export const SIGKILL = 9;

/** An exit that nobody saw. */
export function lost(core: Core, message: string): Exit {
  return { status: LOST_STATUS, at: core.clock.now(), reason: "lost", message };
}

/**
 * Hears of an exit as soon as the driver tells it, before anything that the driver does next. A driver
 * whose promise rejects, which it must not, has lost sight of what it started; unheard, that would
 * take the whole process with it.
 */
export function onExit(core: Core, exited: Promise<Exit>, hear: (exit: Exit) => void): void {
  exited.then(hear, (error: unknown) => hear(outOfSight(core, error)));
}

/** The exit that a driver tells; see {@link onExit}. */
export async function exitOf(core: Core, exited: Promise<Exit>): Promise<Exit> {
  try {
    return await exited;
  } catch (error) {
    return outOfSight(core, error);
  }
}

function outOfSight(core: Core, error: unknown): Exit {
  return lost(core, `the driver lost sight of it: ${SandboxError.from(error).message}`);
}

/** The one place where a process's exit is recorded; later ones are not heard. */
export function recordExit(
  core: Core,
  sandbox: Sandbox,
  container: Container,
  process: Process,
  exit: Exit,
): void {
  if (process.state.kind === "exited") return;
  process.state = processExited(process.state, exit);
  process.starting?.abort(new SandboxError("Cancelled", "the process was killed"));
  if (process === container.init && container.state.kind !== "stopped") {
    container.state = containerStopped(container.state);
  }
  process.exits.settle(exit);
  tellExit(core, sandbox, container, process);
}

/** Tells of the exit of a process and stores it. */
export function tellExit(
  core: Core,
  sandbox: Sandbox,
  container: Container,
  process: Process,
): void {
  const { state, execId } = process;
  if (state.kind !== "exited") return;
  const containerId = container.spec.id;
  const { pid, exit } = state;
  if (exit.reason === "oom") core.emit(sandbox, { kind: "container-oom", containerId });
  core.emit(sandbox, { kind: "process-exited", containerId, execId, pid, exit });
  core.saveLater(sandbox);
}

/** Records the exit of every process that has none: its sandbox or container is gone. */
export function killRemaining(
  core: Core,
  sandbox: Sandbox,
  container: Container,
  at: number,
): void {
  // Execs first: the exit of the init process is the last thing that is heard of a container.
  for (const process of [...container.execs.values(), container.init]) {
    recordExit(core, sandbox, container, process, { status: KILLED_STATUS, at, reason: "lost" });
  }
}

/** Records a process's exit when the driver tells it; the execs of a dead init die with it. */
export function followExit(
  core: Core,
  sandbox: Sandbox,
  container: Container,
  process: Process,
  handle: ProcessHandle,
): void {
  onExit(core, handle.exited, (exit) => {
    recordExit(core, sandbox, container, process, exit);
    if (process === container.init) endExecs(core, sandbox, container);
  });
}

/** Ends the execs of a container whose init has ended: those that run are killed. */
export function endExecs(core: Core, sandbox: Sandbox, container: Container): void {
  const exit: Exit = { status: KILLED_STATUS, at: core.clock.now(), reason: "lost" };
  for (const exec of container.execs.values()) {
    if (exec.state.kind === "running") killQuietly(core, container, exec.state.handle);
    else recordExit(core, sandbox, container, exec, exit);
  }
}

/** Kills a process that nobody asks for any more; the container's release is the second try. */
export function killQuietly(core: Core, container: Container, handle: ProcessHandle): void {
  attempt("cannot kill a process", () => handle.kill(SIGKILL)).catch((error: unknown) =>
    core.log.warn("cannot kill a process that is not wanted", {
      container: container.spec.id,
      pid: handle.pid,
      error: String(error),
    })
  );
}
