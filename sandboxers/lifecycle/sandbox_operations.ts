/**
 * What can be done to a sandbox: create, start, stop, delete, update. Each function is one verb; the
 * order of effects in it is the rule, and no other place has it.
 *
 * @module
 */

import { killRemaining, releaseContainer } from "./container_operations.ts";
import type { Core } from "./core.ts";
import type { SandboxHandle } from "./driver.ts";
import { abortError, SandboxError } from "./errors.ts";
import { checkId } from "./ids.ts";
import {
  Sandbox,
  sandboxFailed,
  sandboxReady,
  type SandboxStarting,
  sandboxStarting,
  sandboxStopped,
  sandboxStopping,
} from "./sandbox.ts";
import { linkSignals } from "./signals.ts";
import type { Exit, ResourceSpec, SandboxSpec } from "./spec.ts";

/** The status of a sandbox that was stopped on request. */
const STOPPED_STATUS = 0;

/** Creates a sandbox; nothing runs yet. */
export async function createSandbox(core: Core, spec: SandboxSpec): Promise<void> {
  core.mustBeOpen();
  checkId("sandbox id", spec.id);
  checkId("namespace", spec.namespace);
  if (core.sandboxes.has(spec.id)) {
    throw new SandboxError("AlreadyExists", `sandbox "${spec.id}" already exists`);
  }
  if (core.sandboxes.size >= core.limits.sandboxes) {
    throw new SandboxError(
      "ResourceExhausted",
      `cannot create sandbox "${spec.id}": ${core.limits.sandboxes} sandboxes exist, the most allowed`,
    );
  }
  const sandbox = new Sandbox(spec, core.clock.now());
  core.sandboxes.set(spec.id, sandbox);
  await sandbox.queue.run(async () => {
    try {
      await core.save(sandbox);
    } catch (error) {
      await forget(core, sandbox, SandboxError.from(error));
      throw error;
    }
    core.emit(sandbox, { kind: "sandbox-created" });
  });
}

/**
 * Starts a sandbox. When that fails, or the caller gives up before it is done, everything is undone
 * and the sandbox forgotten: containerd sends no clean-up call then.
 */
export async function startSandbox(core: Core, id: string, signal?: AbortSignal): Promise<void> {
  core.mustBeOpen();
  const sandbox = core.sandbox(id);
  await sandbox.queue.run(async () => {
    if (sandbox.deleted) throw new SandboxError("NotFound", `sandbox "${id}" not found`);
    if (sandbox.state.kind !== "created") throw sandbox.wrongState("start", "created");
    const starting = sandboxStarting(sandbox.state);
    sandbox.state = starting;
    using linked = linkSignals(signal, starting.abort.signal);
    await bringUp(core, sandbox, starting, linked.signal);
  });
}

async function bringUp(
  core: Core,
  sandbox: Sandbox,
  starting: SandboxStarting,
  signal: AbortSignal,
): Promise<void> {
  const action = `start ${sandbox.label}`;
  let handle: SandboxHandle | undefined;
  try {
    await core.save(sandbox);
    if (signal.aborted) throw abortError(signal, action);
    handle = await core.driver.start(sandbox.spec, signal);
    sandbox.state = sandboxReady(starting, handle);
    await core.save(sandbox);
    if (signal.aborted) throw abortError(signal, action);
  } catch (error) {
    sandbox.state = starting;
    await undoStart(core, sandbox, starting, SandboxError.from(error, `cannot ${action}`), handle);
    throw SandboxError.from(error, `cannot ${action}`);
  }
  watch(core, sandbox, handle);
  core.emit(sandbox, { kind: "sandbox-started", pid: handle.pid });
}

async function undoStart(
  core: Core,
  sandbox: Sandbox,
  starting: SandboxStarting,
  error: SandboxError,
  handle: SandboxHandle | undefined,
): Promise<void> {
  let left = handle;
  sandbox.life.abort(error);
  await Promise.allSettled(sandbox.making);
  try {
    await handle?.stop(0);
    for (const container of [...sandbox.containers.values()]) {
      await releaseContainer(core, sandbox, container);
    }
    left = undefined;
  } catch (stopError) {
    core.log.warn("cannot undo the start of a sandbox", {
      sandbox: sandbox.spec.id,
      error: String(stopError),
    });
  }
  sandbox.state = sandboxFailed(starting, error, core.clock.now(), left);
  sandbox.exits.settle(sandbox.state.exit);
  core.emit(sandbox, { kind: "sandbox-failed", message: error.message });
  // With something left the sandbox stays, so that delete or the next start-up can try again.
  if (left === undefined) await forget(core, sandbox, error);
  else core.saveLater(sandbox);
}

/** Takes a sandbox out of memory and store. */
async function forget(core: Core, sandbox: Sandbox, error: SandboxError): Promise<void> {
  sandbox.deleted = true;
  sandbox.exits.fail(error);
  try {
    await core.save(sandbox);
  } catch (saveError) {
    core.log.warn("cannot remove stored state", {
      sandbox: sandbox.spec.id,
      error: String(saveError),
    });
  }
  core.sandboxes.delete(sandbox.spec.id);
}

/** Follows a started sandbox: when it ends by itself its containers have ended too. */
export function watch(core: Core, sandbox: Sandbox, handle: SandboxHandle): void {
  handle.exited.then((exit) => {
    // A stop under way, or one that came first, has the exit already.
    if (sandbox.state.kind !== "ready" || sandbox.state.handle !== handle) return;
    void sandbox.queue.run(() => endedByItself(core, sandbox, handle, exit));
  });
}

async function endedByItself(
  core: Core,
  sandbox: Sandbox,
  handle: SandboxHandle,
  exit: Exit,
): Promise<void> {
  if (sandbox.state.kind !== "ready" || sandbox.state.handle !== handle) return;
  const { state } = sandbox;
  sandbox.state = sandboxStopping(state);
  try {
    await handle.stop(0);
  } catch (error) {
    core.log.warn("cannot release a sandbox that ended", {
      sandbox: sandbox.spec.id,
      error: String(error),
    });
  }
  await settleStop(core, sandbox, exit);
}

/** Everything that follows from a sandbox having ended, once. */
async function settleStop(core: Core, sandbox: Sandbox, exit: Exit): Promise<void> {
  sandbox.life.abort(
    new SandboxError("FailedPrecondition", `${sandbox.label} was stopped`),
  );
  await Promise.allSettled(sandbox.making);
  for (const container of sandbox.containers.values()) {
    killRemaining(core, sandbox, container, exit.at);
  }
  if (sandbox.state.kind !== "stopping" && sandbox.state.kind !== "created") return;
  sandbox.state = sandboxStopped(sandbox.state, exit);
  sandbox.exits.settle(exit);
  core.emit(sandbox, { kind: "sandbox-stopped", exit });
  core.saveLater(sandbox);
}

/**
 * Stops a sandbox with all it runs. Stopping a stopped one succeeds; one that is being started is
 * told to give up first.
 */
export async function stopSandbox(core: Core, id: string, graceMs: number): Promise<void> {
  const sandbox = core.sandbox(id);
  if (sandbox.state.kind === "starting") {
    sandbox.state.abort.abort(
      new SandboxError("Cancelled", `start of ${sandbox.label} was cut short by a stop`),
    );
  }
  await sandbox.queue.run(() => stopNow(core, sandbox, graceMs));
}

async function stopNow(core: Core, sandbox: Sandbox, graceMs: number): Promise<void> {
  if (sandbox.deleted) return;
  if (sandbox.state.kind === "created") {
    await settleStop(core, sandbox, {
      status: STOPPED_STATUS,
      at: core.clock.now(),
      reason: "signaled",
    });
    return;
  }
  if (sandbox.state.kind === "ready") sandbox.state = sandboxStopping(sandbox.state);
  if (sandbox.state.kind !== "stopping") return;
  const { handle } = sandbox.state;
  sandbox.life.abort(new SandboxError("FailedPrecondition", `${sandbox.label} is being stopped`));
  await Promise.allSettled(sandbox.making);
  try {
    await handle.stop(graceMs);
  } catch (error) {
    throw SandboxError.from(error, `cannot stop ${sandbox.label}`);
  }
  await settleStop(core, sandbox, await handle.exited);
}

/** Deletes a sandbox, stopping it first where it still runs. */
export async function deleteSandbox(core: Core, id: string): Promise<void> {
  await stopSandbox(core, id, 0);
  const sandbox = core.sandboxes.get(id);
  if (sandbox === undefined) return; // It was being started; the stop has undone that.
  await sandbox.queue.run(async () => {
    if (sandbox.deleted) throw new SandboxError("NotFound", `sandbox "${id}" not found`);
    if (sandbox.state.kind === "failed") await sandbox.state.handle?.stop(0);
    for (const container of [...sandbox.containers.values()]) {
      await container.queue.run(() => releaseContainer(core, sandbox, container));
    }
    sandbox.deleted = true;
    try {
      await core.save(sandbox);
    } catch (error) {
      sandbox.deleted = false;
      throw error;
    }
    core.sandboxes.delete(id);
    core.emit(sandbox, { kind: "sandbox-deleted" });
  });
}

/** Changes the limits of a running sandbox. */
export async function updateSandbox(
  core: Core,
  id: string,
  resources: ResourceSpec,
): Promise<void> {
  const sandbox = core.sandbox(id);
  await sandbox.queue.run(async () => {
    const handle = sandbox.mustBeReady("update");
    if (!core.driver.capabilities.updateSandbox || handle.update === undefined) {
      throw new SandboxError(
        "Unimplemented",
        `cannot update ${sandbox.label}: ${core.driver.kind} sandboxes cannot change their resources`,
      );
    }
    await handle.update(resources);
  });
}
