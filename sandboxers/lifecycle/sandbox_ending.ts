/**
 * How a sandbox ends: stopped on request, by itself, deleted. Whatever the way, its containers are
 * given up first, then the driver releases it, then the exits are told and root file systems unmounted.
 *
 * @module
 */

import { releaseContainer, unmountEnded } from "./container_operations.ts";
import type { Core } from "./core.ts";
import type { SandboxHandle } from "./driver.ts";
import { attempt, SandboxError, throwIfAborted } from "./errors.ts";
import { exitOf, killRemaining, onExit } from "./exits.ts";
import {
  type Leftover,
  type Sandbox,
  sandboxReleased,
  sandboxStopped,
  sandboxStopping,
} from "./sandbox.ts";
import type { Exit } from "./spec.ts";

/** The status of a sandbox that was stopped before it was started. */
const NEVER_RAN_STATUS = 0;

/** Follows a started sandbox: when it ends by itself its containers have ended too. */
export function watch(core: Core, sandbox: Sandbox, handle: SandboxHandle): void {
  onExit(core, handle.exited, (exit) => {
    void sandbox.queue.runAlways(() => endedByItself(core, sandbox, handle, exit));
  });
}

async function endedByItself(
  core: Core,
  sandbox: Sandbox,
  handle: SandboxHandle,
  exit: Exit,
): Promise<void> {
  // Not where it was stopped; but where a stop failed, this is the end that it did not bring.
  if (sandbox.state.kind === "ready") sandbox.state = sandboxStopping(sandbox.state);
  if (sandbox.state.kind !== "stopping") return;
  await sandbox.giveUp(new SandboxError("FailedPrecondition", `${sandbox.label} has ended`));
  let left: Leftover | undefined;
  try {
    await handle.stop(0);
  } catch (error) {
    left = handle;
    core.log.warn("cannot release a sandbox that ended", {
      sandbox: sandbox.spec.id,
      error: String(error),
    });
  }
  settleStop(core, sandbox, exit, left);
  if (left === undefined) await unmountEnded(core, sandbox);
}

/** Everything that follows from a sandbox having ended, once. */
function settleStop(core: Core, sandbox: Sandbox, exit: Exit, left?: Leftover): void {
  if (sandbox.state.kind !== "stopping" && sandbox.state.kind !== "created") return;
  for (const container of sandbox.containers.values()) {
    killRemaining(core, sandbox, container, exit.at);
  }
  sandbox.state = sandboxStopped(sandbox.state, exit, left);
  sandbox.exits.settle(exit);
  core.emit(sandbox, { kind: "sandbox-stopped", exit });
  core.saveLater(sandbox);
}

/**
 * Stops a sandbox with all it runs. Stopping a stopped one succeeds; one that is being started is
 * told to give up first. A caller can give up until its turn comes, not after.
 */
export async function stopSandbox(
  core: Core,
  id: string,
  graceMs: number,
  signal?: AbortSignal,
): Promise<void> {
  const sandbox = core.sandbox(id);
  throwIfAborted(signal, `cannot stop ${sandbox.label}`);
  cutStartShort(sandbox);
  await sandbox.queue.run(async () => {
    throwIfAborted(signal, `cannot stop ${sandbox.label}`);
    await orSave(core, sandbox, () => stopNow(core, sandbox, graceMs));
    await unmountEnded(core, sandbox);
  });
}

/** Has the store know how far something got that failed: the next process goes on from there. */
async function orSave(core: Core, sandbox: Sandbox, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    core.saveLater(sandbox);
    throw error;
  }
}

function cutStartShort(sandbox: Sandbox): void {
  if (sandbox.state.kind !== "starting") return;
  sandbox.state.abort.abort(
    new SandboxError("Cancelled", `start of ${sandbox.label} was cut short by a stop`),
  );
}

async function stopNow(core: Core, sandbox: Sandbox, graceMs: number): Promise<void> {
  if (sandbox.deleted) return;
  if (sandbox.state.kind === "created") {
    const at = core.clock.now();
    settleStop(core, sandbox, { status: NEVER_RAN_STATUS, at, reason: "signaled" });
    return;
  }
  if (sandbox.state.kind === "ready") sandbox.state = sandboxStopping(sandbox.state);
  if (sandbox.state.kind !== "stopping") return;
  const { handle } = sandbox.state;
  await sandbox.giveUp(
    new SandboxError("FailedPrecondition", `${sandbox.label} is being stopped`),
  );
  await attempt(`cannot stop ${sandbox.label}`, () => handle.stop(graceMs));
  settleStop(core, sandbox, await exitOf(core, handle.exited));
}

/**
 * Deletes a sandbox, stopping it first where it still runs. A caller can give up until its turn
 * comes, not after; one that comes late finds done what it asked for.
 */
export async function deleteSandbox(core: Core, id: string, signal?: AbortSignal): Promise<void> {
  const sandbox = core.sandbox(id);
  const action = `cannot delete ${sandbox.label}`;
  throwIfAborted(signal, action);
  cutStartShort(sandbox);
  await sandbox.queue.run(async () => {
    if (sandbox.deleted) return;
    throwIfAborted(signal, action);
    await deleteNow(core, sandbox, action);
  });
}

/**
 * Deletes the sandboxes that nobody comes back for: those that were created and not started since, as
 * callers who give up between the two calls send no clean-up; and those that were taken over with no
 * container in them and that nobody has waited for since, as callers whose start was broken off before
 * it was answered send none either.
 *
 * @param olderThanMs How long ago they were created, or taken over, in milliseconds.
 */
export async function deleteUnstarted(core: Core, olderThanMs: number): Promise<void> {
  const since = ({ state, createdAt, unheardSince }: Sandbox) =>
    state.kind === "created" ? createdAt : state.kind === "ready" ? unheardSince : undefined;
  const isDue = (sandbox: Sandbox) =>
    !sandbox.deleted && core.clock.now() - (since(sandbox) ?? Infinity) >= olderThanMs;
  for (const sandbox of [...core.sandboxes.values()].filter(isDue)) {
    await sandbox.queue.run(async () => {
      if (!isDue(sandbox)) return;
      const { id } = sandbox.spec;
      const what = sandbox.state.kind === "ready" ? "asked for" : "started";
      core.log.warn(`deleting a sandbox that nobody has ${what}`, { sandbox: id, olderThanMs });
      await deleteNow(core, sandbox, `cannot delete ${sandbox.label}`);
    });
  }
}

/** Deletes a sandbox whose turn it is. */
async function deleteNow(core: Core, sandbox: Sandbox, action: string): Promise<void> {
  await orSave(core, sandbox, async () => {
    await stopNow(core, sandbox, 0);
    await releaseLeft(sandbox, action);
    for (const container of [...sandbox.containers.values()]) {
      await container.queue.run(() => releaseContainer(core, sandbox, container));
    }
  });
  sandbox.deleted = true;
  try {
    await core.save(sandbox);
  } catch (error) {
    sandbox.deleted = false;
    throw error;
  }
  core.sandboxes.delete(sandbox.spec.id);
  core.emit(sandbox, { kind: "sandbox-deleted" });
}

/** Tries once more to release what the driver still holds of a sandbox that has ended. */
async function releaseLeft(sandbox: Sandbox, action: string): Promise<void> {
  const { state } = sandbox;
  if (state.kind !== "stopped" && state.kind !== "failed") return;
  const { left } = state;
  if (left === undefined) return;
  await attempt(action, () => left.stop(0));
  sandbox.state = sandboxReleased(state);
}
