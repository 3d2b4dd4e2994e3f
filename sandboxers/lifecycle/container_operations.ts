/**
 * What can be done to a container as a whole: create, pause, resume, update, release.
 *
 * @module
 */

import { Container, containerPaused, containerResumed } from "./container.ts";
import type { Core, Located } from "./core.ts";
import type { ContainerHandle } from "./driver.ts";
import { attempt, SandboxError, throwIfAborted } from "./errors.ts";
import { killRemaining, lost } from "./exits.ts";
import { checkId } from "./ids.ts";
import { processExited } from "./process.ts";
import type { Sandbox } from "./sandbox.ts";
import { linkSignals } from "./signals.ts";
import type { ContainerSpec, ResourceSpec } from "./spec.ts";

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
  mustBeFree(core, spec.id);
  const creating = core.creating.get(sandbox) ?? new Map<string, ContainerSpec>();
  if (sandbox.containers.size + creating.size >= core.limits.containersPerSandbox) {
    throw new SandboxError(
      "ResourceExhausted",
      `cannot create container "${spec.id}": ${sandbox.label} holds ` +
        `${core.limits.containersPerSandbox} containers, the most allowed`,
    );
  }
  checkSupported(core, spec);
  sandbox.isFresh = false;
  sandbox.unheardSince = undefined;
  creating.set(spec.id, spec);
  core.creating.set(sandbox, creating);
  core.owners.set(spec.id, sandbox);
  using linked = linkSignals(signal, sandbox.life.signal);
  await sandbox.make(make(core, sandbox, spec, linked.signal));
}

/** Refuses an id that is taken. */
function mustBeFree(core: Core, id: string): void {
  const owner = core.owners.get(id);
  if (owner === undefined) return;
  if (!owner.released.has(id)) {
    throw new SandboxError("AlreadyExists", `container "${id}" already exists`);
  }
  core.saveLater(owner);
  throw new SandboxError(
    "Unavailable",
    `cannot create container "${id}": the one before it is still being removed from the store, ` +
      `try again`,
  );
}

function checkSupported(core: Core, spec: ContainerSpec): void {
  if (spec.process.args.length === 0) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot create container "${spec.id}": process.args is empty, expected a command`,
    );
  }
  if (spec.stdio.terminal) mustHaveTerminals(core, `container "${spec.id}"`);
  try {
    core.driver.validate?.(spec);
  } catch (thrown) {
    throw SandboxError.from(thrown, `cannot create container "${spec.id}"`, "InvalidArgument");
  }
}

/**
 * Refuses a process with a terminal where there can be none.
 *
 * @throws SandboxError `Unimplemented` where this kind of sandbox has no terminals.
 */
export function mustHaveTerminals(core: Core, label: string): void {
  if (core.driver.capabilities.terminal) return;
  throw new SandboxError(
    "Unimplemented",
    `cannot run ${label} with a terminal: ${core.driver.kind} sandboxes have none, set terminal to false`,
  );
}

/** What has been made of a container so far. */
interface Made {
  mounted: boolean;
  handle: ContainerHandle | undefined;
}

async function make(
  core: Core,
  sandbox: Sandbox,
  spec: ContainerSpec,
  signal: AbortSignal,
): Promise<void> {
  const made: Made = { mounted: false, handle: undefined };
  let handle: ContainerHandle;
  try {
    handle = await makeHandle(core, sandbox, spec, signal, made);
  } catch (error) {
    await unmake(core, sandbox, spec, made);
    await core.saveQuietly(sandbox);
    throw error;
  }
  notCreating(core, sandbox, spec.id);
  sandbox.containers.set(spec.id, new Container(spec, { kind: "created", handle }));
  core.emit(sandbox, { kind: "container-created", containerId: spec.id, spec });
  await core.saveForNext(sandbox);
}

async function makeHandle(
  core: Core,
  sandbox: Sandbox,
  spec: ContainerSpec,
  signal: AbortSignal,
  made: Made,
): Promise<ContainerHandle> {
  const action = `cannot create container "${spec.id}"`;
  throwIfAborted(signal, action);
  // The store knows of it before there is a mount: what a crash leaves behind can be found.
  const begin = performance.now();
  await core.save(sandbox);
  const stored = performance.now();
  core.observer.phase("container_create", "store", begin, stored);
  throwIfAborted(signal, action);
  const sandboxHandle = sandbox.mustBeReady(`create container "${spec.id}" in`);
  if (spec.rootfs.kind === "mounts") {
    const { target, mounts } = spec.rootfs;
    await attempt(action, () => core.mounter.mount(mounts, target));
    made.mounted = true;
    core.observer.phase("container_create", "mount", stored);
    throwIfAborted(signal, action);
  }
  const mounted = performance.now();
  const handle = await attempt(action, () => sandboxHandle.createContainer(spec, signal), signal);
  made.handle = handle;
  core.observer.phase("container_create", "driver", mounted);
  throwIfAborted(signal, action);
  return handle;
}

/** Undoes what was made of a container; where that fails it stays, stopped, to be deleted. */
async function unmake(
  core: Core,
  sandbox: Sandbox,
  spec: ContainerSpec,
  made: Made,
): Promise<void> {
  try {
    await made.handle?.delete();
    if (made.mounted) await unmount(core, spec);
    sandbox.released.add(spec.id);
  } catch (error) {
    core.log.warn("cannot undo the making of a container", {
      container: spec.id,
      error: String(error),
    });
    keepRemains(core, sandbox, spec, made.handle);
  } finally {
    notCreating(core, sandbox, spec.id);
  }
}

/**
 * Keeps what could not be undone of a container as a stopped one, so that a delete can try again. It
 * never ran and nobody heard of it: there is no exit to tell.
 */
export function keepRemains(
  core: Core,
  sandbox: Sandbox,
  spec: ContainerSpec,
  handle: ContainerHandle | undefined,
): void {
  const container = new Container(spec, { kind: "stopped", handle });
  const exit = lost(core, "it could not be created");
  container.init.state = processExited({ kind: "created" }, exit);
  container.init.exits.settle(exit);
  sandbox.containers.set(spec.id, container);
  core.owners.set(spec.id, sandbox);
}

function notCreating(core: Core, sandbox: Sandbox, containerId: string): void {
  const creating = core.creating.get(sandbox);
  creating?.delete(containerId);
  if (creating?.size === 0) core.creating.delete(sandbox);
}

/** Takes the root file system of a container away, if it was mounted for it. */
export async function unmount(core: Core, { id, rootfs }: ContainerSpec): Promise<void> {
  if (rootfs.kind !== "mounts") return;
  const action = `cannot unmount the root file system of container "${id}"`;
  await attempt(action, () => core.mounter.unmount(rootfs.target));
}

/**
 * Takes away the root file systems of containers that have ended, or end with this process. One that
 * fails is told in the log: the delete of its container, or the next process, tries again.
 */
export async function unmountEnded(core: Core, sandbox: Sandbox): Promise<void> {
  await Promise.all([...sandbox.containers.values()].map(async ({ spec }) => {
    try {
      await unmount(core, spec);
    } catch (error) {
      core.log.warn("cannot unmount", { container: spec.id, error: String(error) });
    }
  }));
}

/**
 * Takes a container away: driver first (it may hold the root file system open), then mounts; the
 * record is for the caller to write. Each step can be repeated, so a delete that failed can be tried again.
 */
export async function releaseContainer(
  core: Core,
  sandbox: Sandbox,
  container: Container,
): Promise<void> {
  if (container.deleted) return;
  const { spec, state } = container;
  // One that was never started has ended now, also where the rest fails: it cannot be started again.
  if (state.kind === "created") killRemaining(core, sandbox, container, core.clock.now());
  await attempt(`cannot delete container "${spec.id}"`, () => state.handle?.delete());
  await unmount(core, spec);
  killRemaining(core, sandbox, container, core.clock.now());
  container.deleted = true;
  sandbox.containers.delete(spec.id);
  sandbox.released.add(spec.id);
  const { pid, exit } = container.init.mustHaveExited(spec.id);
  core.emit(sandbox, { kind: "process-deleted", containerId: spec.id, execId: "", pid, exit });
}

/** Freezes a running container. */
export async function pauseContainer(core: Core, id: string): Promise<void> {
  await changing(core, id, "pause", async ({ sandbox, container }) => {
    const { state } = container;
    if (state.kind !== "running") throw container.wrongState("pause", "running");
    await attempt(`cannot pause container "${id}"`, () => state.handle.pause?.());
    // It may have ended while the driver froze it: then it is stopped and stays so.
    if (container.state !== state) return;
    container.state = containerPaused(state);
    core.emit(sandbox, { kind: "container-paused", containerId: id });
    await core.saveForNext(sandbox);
  });
}

/** Thaws a paused container. */
export async function resumeContainer(core: Core, id: string): Promise<void> {
  await changing(core, id, "resume", async ({ sandbox, container }) => {
    const { state } = container;
    if (state.kind !== "paused") throw container.wrongState("resume", "paused");
    await attempt(`cannot resume container "${id}"`, () => state.handle.resume?.());
    if (container.state !== state) return;
    container.state = containerResumed(state);
    core.emit(sandbox, { kind: "container-resumed", containerId: id });
    await core.saveForNext(sandbox);
  });
}

/** Runs a change of a container in its turn, where the driver can do it. */
async function changing(
  core: Core,
  id: string,
  action: "pause" | "resume",
  change: (located: Located) => Promise<void>,
): Promise<void> {
  const located = core.container(id);
  if (!core.driver.capabilities.pause) throw unimplemented(core, action, id);
  await located.container.queue.run(async () => {
    located.container.mustExist();
    await change(located);
  });
}

/** Changes the limits of a container. */
export async function updateContainer(
  core: Core,
  id: string,
  resources: ResourceSpec,
): Promise<void> {
  const { sandbox, container } = core.container(id);
  if (!core.driver.capabilities.updateContainer) throw unimplemented(core, "update", id);
  await container.queue.run(async () => {
    container.mustExist();
    const { state } = container;
    if (state.kind === "stopped") throw container.wrongState("update", "created or running");
    await attempt(`cannot update container "${id}"`, () => state.handle.update?.(resources));
    container.resources = resources;
    core.saveLater(sandbox);
  });
}

function unimplemented(core: Core, action: string, id: string): SandboxError {
  return new SandboxError(
    "Unimplemented",
    `cannot ${action} container "${id}": ${core.driver.kind} sandboxes do not support it`,
  );
}
