/**
 * What can be done to a sandbox that is to run: create, start, update. Each function is one verb; the
 * order of effects in it is the rule, and no other place has it. How one ends is in
 * `sandbox_ending.ts`.
 *
 * @module
 */

import type { Core } from "./core.ts";
import type { SandboxHandle } from "./driver.ts";
import { attempt, SandboxError, throwIfAborted } from "./errors.ts";
import { checkId } from "./ids.ts";
import {
  Sandbox,
  sandboxFailed,
  sandboxReady,
  sandboxStarted,
  type SandboxStarting,
  sandboxStarting,
} from "./sandbox.ts";
import { watch } from "./sandbox_ending.ts";
import { linkSignals } from "./signals.ts";
import type { ResourceSpec, SandboxSpec } from "./spec.ts";
import type { SandboxView } from "./view.ts";
import { viewSandbox } from "./viewing.ts";

/** Creates a sandbox; nothing runs yet. Where that fails, or the caller gives up, nothing stays. */
export async function createSandbox(
  core: Core,
  spec: SandboxSpec,
  signal?: AbortSignal,
): Promise<void> {
  core.mustBeOpen();
  checkId("sandbox id", spec.id);
  checkId("namespace", spec.namespace);
  const action = `cannot create sandbox "${spec.id}"`;
  throwIfAborted(signal, action);
  if (core.sandboxes.has(spec.id)) {
    throw new SandboxError("AlreadyExists", `sandbox "${spec.id}" already exists`);
  }
  if (core.sandboxes.size >= core.limits.sandboxes) {
    throw new SandboxError(
      "ResourceExhausted",
      `${action}: ${core.limits.sandboxes} sandboxes exist, the most allowed`,
    );
  }
  const sandbox = new Sandbox(spec, core.clock.now());
  core.sandboxes.set(spec.id, sandbox);
  await sandbox.queue.run(async () => {
    try {
      await core.save(sandbox);
      throwIfAborted(signal, action);
    } catch (thrown) {
      const error = SandboxError.from(thrown, action);
      await forget(core, sandbox, error);
      throw error;
    }
    core.emit(sandbox, { kind: "sandbox-created" });
  });
}

/**
 * Starts a sandbox. When that fails, or the caller gives up before it is done, everything is undone
 * and the sandbox forgotten: containerd sends no clean-up call then.
 *
 * @returns The sandbox as it was when it became ready.
 */
export async function startSandbox(
  core: Core,
  id: string,
  signal?: AbortSignal,
): Promise<SandboxView> {
  core.mustBeOpen();
  const sandbox = core.sandbox(id);
  return await sandbox.queue.run(async () => {
    core.mustBeOpen();
    sandbox.mustExist();
    if (sandbox.state.kind !== "created") throw sandbox.wrongState("start", "created");
    const starting = sandboxStarting(sandbox.state);
    sandbox.state = starting;
    using linked = linkSignals(signal, starting.abort.signal);
    await bringUp(core, sandbox, starting, linked.signal);
    return viewSandbox(sandbox);
  });
}

async function bringUp(
  core: Core,
  sandbox: Sandbox,
  starting: SandboxStarting,
  signal: AbortSignal,
): Promise<void> {
  const action = `cannot start ${sandbox.label}`;
  let handle: SandboxHandle | undefined;
  try {
    // The store knows of it before the driver does: what a crash leaves behind can be found.
    const begin = performance.now();
    await core.save(sandbox);
    throwIfAborted(signal, action);
    const stored = performance.now();
    core.observer.phase("sandbox_start", "store", begin, stored);
    handle = await attempt(action, () => core.driver.start(sandbox.spec, signal), signal);
    const started = performance.now();
    core.observer.phase("sandbox_start", "driver", stored, started);
    sandbox.state = sandboxStarted(starting, handle);
    await core.save(sandbox);
    core.observer.phase("sandbox_start", "store_ready", started);
    throwIfAborted(signal, action);
  } catch (thrown) {
    const error = SandboxError.from(thrown, action);
    await undoStart(core, sandbox, starting, error, handle);
    throw error;
  }
  sandbox.state = sandboxReady(sandbox.state, handle);
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
  try {
    await handle?.stop(0);
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
  // With something left the sandbox stays, so that a delete or the next start-up can try again.
  if (left === undefined) await forget(core, sandbox, error);
  else core.saveLater(sandbox);
}

/** Takes a sandbox out of memory and store. */
async function forget(core: Core, sandbox: Sandbox, error: SandboxError): Promise<void> {
  sandbox.deleted = true;
  sandbox.exits.fail(new SandboxError("NotFound", `${sandbox.label} not found: ${error.message}`));
  try {
    await core.save(sandbox);
  } catch (saveError) {
    // The store tries again when it works; until then a restart would bring the record back.
    core.log.warn("cannot remove stored state", {
      sandbox: sandbox.spec.id,
      error: String(saveError),
    });
  }
  core.sandboxes.delete(sandbox.spec.id);
}

/** Changes the limits of a running sandbox. */
export async function updateSandbox(
  core: Core,
  id: string,
  resources: ResourceSpec,
): Promise<void> {
  const sandbox = core.sandbox(id);
  if (!core.driver.capabilities.updateSandbox) {
    throw new SandboxError(
      "Unimplemented",
      `cannot update ${sandbox.label}: ${core.driver.kind} sandboxes cannot change their resources`,
    );
  }
  await sandbox.queue.run(async () => {
    sandbox.mustExist();
    const handle = sandbox.mustBeReady("update");
    await attempt(`cannot update ${sandbox.label}`, () => handle.update?.(resources));
  });
}
