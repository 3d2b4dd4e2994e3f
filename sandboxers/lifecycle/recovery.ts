/**
 * Start-up after an earlier sandboxer process: adopt what lives, mark what died with its exit where
 * that is known, clean up what nobody needs any more. Done before anything listens. What cannot be
 * cleaned up stays visible, so that a delete tries again; nothing is dropped that may still be there.
 * Several sandboxes are brought back at a time, and none may hold up the others for long.
 *
 * @module
 */

import type { Core } from "./core.ts";
import type { AdoptedSandbox, SandboxHandle } from "./driver.ts";
import { attempt, SandboxError } from "./errors.ts";
import { lost } from "./exits.ts";
import { recoverContainers } from "./recovery_containers.ts";
import { recordOf, type SandboxRecord } from "./record.ts";
import {
  type Leftover,
  Sandbox,
  sandboxFailed,
  sandboxReady,
  sandboxStarting,
  sandboxStopped,
} from "./sandbox.ts";
import { watch } from "./sandbox_ending.ts";

/** What recovery found. */
export interface RecoverySummary {
  /** Sandboxes that run on, or can be started. */
  readonly adopted: number;
  /** Sandboxes that are known but have ended. */
  readonly stopped: number;
  /** Half-made or damaged ones that were cleaned up. */
  readonly removed: number;
}

/** Sandboxes that are brought back at a time. */
const AT_ONCE_MAX = 16;

/**
 * How long the driver may take for one sandbox, in milliseconds; one that takes longer has ended for
 * its callers, so that they replace it.
 */
const DRIVER_MS_MAX = 60_000;

/**
 * Reads the store and brings every sandbox in it to a state that is true.
 *
 * @param driverMs How long the driver may take for one sandbox, in milliseconds.
 */
export async function recover(
  core: Core,
  driverMs: number = DRIVER_MS_MAX,
): Promise<RecoverySummary> {
  const { records, damaged } = await core.store.load();
  const summary = { adopted: 0, stopped: 0, removed: damaged.length };
  for (const { id, reason } of damaged) {
    core.log.warn("stored sandbox cannot be read", { sandbox: id, reason });
  }
  const recovering = records.map((record) => {
    const sandbox = new Sandbox(record.spec, record.createdAt);
    sandbox.recovering = true;
    sandbox.isFresh = record.fresh === true;
    core.sandboxes.set(record.spec.id, sandbox);
    return async () => {
      summary[await recoverSandbox(core, sandbox, record, driverMs)]++;
      sandbox.recovering = false;
      // What is as it was is in the store already: a thousand writes would hold up the start.
      if (sandbox.deleted || !isStored(sandbox, record)) core.saveLater(sandbox);
    };
  });
  await allOf(recovering, AT_ONCE_MAX);
  await core.written();
  await core.driver.recovered?.();
  return summary;
}

/** Whether a record says of a sandbox what is true now. */
function isStored(sandbox: Sandbox, record: SandboxRecord): boolean {
  return JSON.stringify(recordOf(sandbox, [])) === JSON.stringify(record);
}

/** Does all of something, a few at a time. What one throws ends the rest that was not begun. */
async function allOf(work: readonly (() => Promise<void>)[], atOnce: number): Promise<void> {
  const rest = work.values();
  const runners = Array.from({ length: atOnce }, async () => {
    for (const each of rest) await each();
  });
  await Promise.all(runners);
}

async function recoverSandbox(
  core: Core,
  sandbox: Sandbox,
  record: SandboxRecord,
  driverMs: number,
): Promise<"adopted" | "stopped" | "removed"> {
  switch (record.state) {
    case "created":
      return "adopted";
    case "starting":
    case "failed":
      // Its caller was told that it failed, or nothing, and will not come back.
      return await discard(core, sandbox, record, driverMs);
    case "ready":
      return await takeOver(core, sandbox, record, driverMs);
    case "stopping":
    case "stopped":
      await end(core, sandbox, record, driverMs);
      return "stopped";
  }
}

/** Takes over a sandbox that was ready; one that is gone has stopped. */
async function takeOver(
  core: Core,
  sandbox: Sandbox,
  record: SandboxRecord,
  driverMs: number,
): Promise<"adopted" | "stopped"> {
  let adopted: AdoptedSandbox | undefined;
  const adopting = attempt(
    `cannot take over ${sandbox.label}`,
    () => core.driver.adopt(adoptable(record)),
  );
  try {
    adopted = await within(driverMs, `cannot take over ${sandbox.label}`, adopting);
  } catch (error) {
    // Whether it still runs is not known. For callers it has stopped, so that they replace it; what
    // may be left of it is released when they delete it.
    const { message } = SandboxError.from(error);
    core.log.warn("cannot take over sandbox", { sandbox: record.spec.id, error: message });
    await stopped(core, sandbox, record, `it could not be taken over: ${message}`, {
      record: record.driver,
      stop: releaser(core, record, adopting),
    });
    return "stopped";
  }
  if (adopted === undefined) {
    await stopped(core, sandbox, record, "it ended while no sandboxer watched");
    return "stopped";
  }
  sandbox.state = sandboxReady(sandboxStarting({ kind: "created" }), adopted.handle);
  // Its start may have been broken off before it was answered: then nobody knows of it.
  if (sandbox.isFresh) sandbox.unheardSince = core.clock.now();
  await recoverContainers(core, sandbox, record.containers, { adopted, released: true });
  watch(core, sandbox, adopted.handle);
  return "adopted";
}

/** Brings a sandbox that was stopped, or was being stopped, to its end. */
async function end(
  core: Core,
  sandbox: Sandbox,
  record: SandboxRecord,
  driverMs: number,
): Promise<void> {
  const mayRun = record.state === "stopping" || record.left;
  const left = mayRun ? await release(core, record, driverMs) : undefined;
  await stopped(core, sandbox, record, "it was being stopped when its sandboxer ended", left);
}

async function stopped(
  core: Core,
  sandbox: Sandbox,
  record: SandboxRecord,
  message: string,
  left?: Leftover,
): Promise<void> {
  const exit = record.exit ?? lost(core, message);
  await recoverContainers(core, sandbox, record.containers, { released: left === undefined });
  sandbox.state = sandboxStopped({ kind: "created" }, exit, left);
  sandbox.exits.settle(exit);
  if (record.exit === undefined) core.emit(sandbox, { kind: "sandbox-stopped", exit });
}

/** Removes a sandbox that was never ready; where that fails it stays as failed. */
async function discard(
  core: Core,
  sandbox: Sandbox,
  record: SandboxRecord,
  driverMs: number,
): Promise<"stopped" | "removed"> {
  const left = await release(core, record, driverMs);
  if (left === undefined) {
    sandbox.deleted = true;
    core.sandboxes.delete(record.spec.id);
    await core.save(sandbox).catch((error: unknown) =>
      core.log.warn("cannot remove stored state", {
        sandbox: record.spec.id,
        error: String(error),
      })
    );
    return "removed";
  }
  const error = new SandboxError("Internal", "it was not started and could not be cleaned up");
  const starting = sandboxStarting({ kind: "created" });
  const failed = sandboxFailed(starting, error, core.clock.now(), left);
  sandbox.state = failed;
  sandbox.exits.settle(failed.exit);
  return "stopped";
}

/**
 * Releases what the driver may still hold of a sandbox.
 *
 * @returns What is left because that failed; undefined when nothing is.
 */
async function release(
  core: Core,
  record: SandboxRecord,
  driverMs: number,
): Promise<Leftover | undefined> {
  const stop = releaser(core, record);
  try {
    await within(driverMs, `cannot release sandbox "${record.spec.id}"`, stop(0));
    return undefined;
  } catch (error) {
    core.log.warn("cannot release sandbox", { sandbox: record.spec.id, error: String(error) });
    return { record: record.driver, stop };
  }
}

/**
 * A stop for a sandbox that has no handle yet: it is adopted first, once.
 *
 * @param adopting Where that was begun already; it may take long, or fail.
 */
function releaser(
  core: Core,
  record: SandboxRecord,
  adopting?: Promise<AdoptedSandbox | undefined>,
): Leftover["stop"] {
  let handle: SandboxHandle | undefined;
  let gone = false;
  // Two at a time would be in each other's way.
  let begun: Promise<SandboxHandle | undefined> | undefined = adopting?.then(
    (adopted) => adopted?.handle,
  );
  const adopt = async () => {
    begun ??= core.driver.adopt(adoptable(record)).then((adopted) => adopted?.handle);
    try {
      return await begun;
    } finally {
      begun = undefined;
    }
  };
  begun?.catch(() => begun = undefined);
  return async (graceMs) => {
    if (gone) return;
    handle ??= await adopt();
    const action = `cannot stop sandbox "${record.spec.id}"`;
    if (handle !== undefined) await attempt(action, async () => await handle?.stop(graceMs));
    gone = true;
  };
}

/** Waits for the driver, which has bounds of its own, but no longer than one sandbox may take. */
async function within<T>(timeoutMs: number, action: string, work: Promise<T>): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new SandboxError("DeadlineExceeded", `${action}: not done in ${timeoutMs} ms`)),
    timeoutMs,
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function adoptable(record: SandboxRecord): Parameters<Core["driver"]["adopt"]>[0] {
  return {
    spec: record.spec,
    record: record.driver,
    containers: record.containers.map(({ spec, driver, processes }) => ({
      spec,
      record: driver,
      execs: processes.flatMap(({ exec }) => exec === undefined ? [] : [exec]),
    })),
  };
}
