/**
 * What can be done to a container as a whole: create, pause, resume, update, release.
 *
 * @module
 */

import {
  Container,
  containerPaused,
  containerResumed,
  type ContainerState,
  containerStopped,
} from "./container.ts";
import type { Core } from "./core.ts";
import type { ContainerHandle } from "./driver.ts";
import { abortError, SandboxError } from "./errors.ts";
import { checkId } from "./ids.ts";
import { type Process, processExited } from "./process.ts";
import type { Sandbox } from "./sandbox.ts";
import { linkSignals } from "./signals.ts";
import type { ContainerSpec, Exit, ResourceSpec } from "./spec.ts";

/** The status of a process that died with its sandbox: as if killed by SIGKILL. */
const KILLED_STATUS = 137;

/** Creates a container: record, root file system, driver, in that order; undone in reverse. */
export async function createContainer(
  core: Core,
  spec: ContainerSpec,
  signal?: AbortSignal,
): Promise<void> {
  core.mustBeOpen();
  checkId("container id", spec.id);
  const sandbox = core.sandbox(spec.sandboxId);
  sandbox.mustBeReady(`create container "${spec.id}" in`);
  if (core.owners.has(spec.id)) {
    throw new SandboxError("AlreadyExists", `container "${spec.id}" already exists`);
  }
  const creating = core.creating.get(sandbox) ?? new Map<string, ContainerSpec>();
  if (sandbox.containers.size + creating.size >= core.limits.containersPerSandbox) {
    throw new SandboxError(
      "ResourceExhausted",
      `cannot create container "${spec.id}": ${sandbox.label} holds ` +
        `${core.limits.containersPerSandbox} containers, the most allowed`,
    );
  }
  checkSupported(core, spec);
  creating.set(spec.id, spec);
  core.creating.set(sandbox, creating);
  core.owners.set(spec.id, sandbox);
  using linked = linkSignals(signal, sandbox.life.signal);
  const making = make(core, sandbox, spec, linked.signal);
  sandbox.making.add(making);
  try {
    await making;
  } finally {
    sandbox.making.delete(making);
  }
}

function checkSupported(core: Core, spec: ContainerSpec): void {
  if (spec.process.args.length === 0) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot create container "${spec.id}": process.args is empty, expected a command`,
    );
  }
  if (spec.stdio.terminal) mustHaveTerminals(core, `container "${spec.id}"`);
  core.driver.validate?.(spec);
}

/** @throws SandboxError `Unimplemented` where this kind of sandbox has no terminals. */
export function mustHaveTerminals(core: Core, label: string): void {
  if (core.driver.capabilities.terminal) return;
  throw new SandboxError(
    "Unimplemented",
    `cannot run ${label} with a terminal: ${core.driver.kind} sandboxes have none, set terminal to false`,
  );
}

async function make(
  core: Core,
  sandbox: Sandbox,
  spec: ContainerSpec,
  signal: AbortSignal,
): Promise<void> {
  const action = `cannot create container "${spec.id}"`;
  try {
    await core.save(sandbox);
    const handle = await makeHandle(core, sandbox, spec, signal);
    const container = new Container(spec, { kind: "created", handle });
    notCreating(core, sandbox, spec.id);
    sandbox.containers.set(spec.id, container);
    core.emit(sandbox, { kind: "container-created", containerId: spec.id, spec });
    core.saveLater(sandbox);
  } catch (error) {
    notCreating(core, sandbox, spec.id);
    core.owners.delete(spec.id);
    core.saveLater(sandbox);
    throw SandboxError.from(error, action);
  }
}

function notCreating(core: Core, sandbox: Sandbox, containerId: string): void {
  const creating = core.creating.get(sandbox);
  creating?.delete(containerId);
  if (creating?.size === 0) core.creating.delete(sandbox);
}

async function makeHandle(
  core: Core,
  sandbox: Sandbox,
  spec: ContainerSpec,
  signal: AbortSignal,
): Promise<ContainerHandle> {
  const action = `create container "${spec.id}"`;
  if (signal.aborted) throw abortError(signal, action);
  const sandboxHandle = sandbox.mustBeReady(action);
  await using undo = new AsyncDisposableStack();
  if (spec.rootfs.kind === "mounts") {
    const { target, mounts } = spec.rootfs;
    await core.mounter.mount(mounts, target);
    undo.defer(() => unmountQuietly(core, target));
  }
  if (signal.aborted) throw abortError(signal, action);
  const handle = await sandboxHandle.createContainer(spec, signal);
  undo.defer(() => handle.delete());
  if (signal.aborted) throw abortError(signal, action);
  undo.move();
  return handle;
}

async function unmountQuietly(core: Core, target: string): Promise<void> {
  try {
    await core.mounter.unmount(target);
  } catch (error) {
    core.log.warn("cannot unmount", { target, error: String(error) });
  }
}

/**
 * Takes a container away: driver first (it may hold the root file system open), then mounts, then
 * record. Each step can be repeated, so a delete that failed can be tried again.
 */
export async function releaseContainer(
  core: Core,
  sandbox: Sandbox,
  container: Container,
): Promise<void> {
  if (container.deleted) return;
  const { spec } = container;
  await container.state.handle?.delete();
  if (spec.rootfs.kind === "mounts") await core.mounter.unmount(spec.rootfs.target);
  killRemaining(core, sandbox, container, core.clock.now());
  container.deleted = true;
  sandbox.containers.delete(spec.id);
  core.owners.delete(spec.id);
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
  const containerId = container.spec.id;
  if (exit.reason === "oom") core.emit(sandbox, { kind: "container-oom", containerId });
  const { execId, state: { pid } } = process;
  core.emit(sandbox, { kind: "process-exited", containerId, execId, pid, exit });
  core.saveLater(sandbox);
}

/** Freezes a running container. */
export async function pauseContainer(core: Core, id: string): Promise<void> {
  await changeState(core, id, "pause", core.driver.capabilities.pause, async (container) => {
    const { state } = container;
    if (state.kind !== "running") throw container.wrongState("pause", "running");
    await state.handle.pause?.();
    // It may have exited while the driver froze it: then it is stopped and stays so.
    return container.state === state ? containerPaused(state) : container.state;
  }, "container-paused");
}

/** Thaws a paused container. */
export async function resumeContainer(core: Core, id: string): Promise<void> {
  await changeState(core, id, "resume", core.driver.capabilities.pause, async (container) => {
    const { state } = container;
    if (state.kind !== "paused") throw container.wrongState("resume", "paused");
    await state.handle.resume?.();
    return container.state === state ? containerResumed(state) : container.state;
  }, "container-resumed");
}

async function changeState(
  core: Core,
  id: string,
  action: string,
  supported: boolean,
  change: (container: Container) => Promise<ContainerState>,
  event: "container-paused" | "container-resumed",
): Promise<void> {
  const { sandbox, container } = core.container(id);
  if (!supported) throw unimplemented(core, action, id);
  await container.queue.run(async () => {
    mustExist(container);
    const next = await change(container);
    if (next === container.state) return;
    container.state = next;
    core.emit(sandbox, { kind: event, containerId: id });
    core.saveLater(sandbox);
  });
}

/** Changes the limits of a container. */
export async function updateContainer(
  core: Core,
  id: string,
  resources: ResourceSpec,
): Promise<void> {
  const { container } = core.container(id);
  if (!core.driver.capabilities.updateContainer) throw unimplemented(core, "update", id);
  await container.queue.run(async () => {
    mustExist(container);
    const { state } = container;
    if (state.kind === "stopped") throw container.wrongState("update", "created or running");
    await state.handle.update?.(resources);
  });
}

/** @throws SandboxError `NotFound` where the container was deleted while the caller waited. */
export function mustExist(container: Container): void {
  if (!container.deleted) return;
  throw new SandboxError("NotFound", `container "${container.spec.id}" not found`);
}

function unimplemented(core: Core, action: string, id: string): SandboxError {
  return new SandboxError(
    "Unimplemented",
    `cannot ${action} container "${id}": ${core.driver.kind} sandboxes do not support it`,
  );
}
