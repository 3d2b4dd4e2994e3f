/**
 * Start-up after an earlier sandboxer process: adopt what lives, mark what died with its exit where
 * that is known, clean up what nobody needs any more. Done before anything listens.
 *
 * @module
 */

import { Container, type ContainerState } from "./container.ts";
import { recordExit } from "./container_operations.ts";
import type { Core } from "./core.ts";
import type { AdoptedContainer, AdoptedSandbox } from "./driver.ts";
import { Process, processRunning } from "./process.ts";
import { followExit } from "./process_operations.ts";
import type { ContainerRecord, SandboxRecord } from "./record.ts";
import { Sandbox, sandboxReady, sandboxStarting } from "./sandbox.ts";
import { watch } from "./sandbox_operations.ts";
import type { Exit } from "./spec.ts";

/** What recovery found. */
export interface RecoverySummary {
  /** Sandboxes that run on. */
  readonly adopted: number;
  /** Sandboxes that are known but have ended. */
  readonly stopped: number;
  /** Half-made or damaged ones that were cleaned up. */
  readonly removed: number;
}

/** Reads the store and brings every sandbox in it to a state that is true. */
export async function recover(core: Core): Promise<RecoverySummary> {
  const { records, damaged } = await core.store.load();
  const summary = { adopted: 0, stopped: 0, removed: damaged.length };
  for (const { id, reason } of damaged) {
    core.log.warn("stored sandbox cannot be read and was moved aside", { sandbox: id, reason });
  }
  for (const record of records) {
    try {
      summary[await recoverSandbox(core, record)]++;
    } catch (error) {
      // One sandbox that cannot be recovered must not keep the node's other pods down.
      core.log.warn("cannot recover sandbox", { sandbox: record.spec.id, error: String(error) });
      summary.removed++;
    }
  }
  await core.written();
  return summary;
}

async function recoverSandbox(
  core: Core,
  record: SandboxRecord,
): Promise<"adopted" | "stopped" | "removed"> {
  const adopted = record.state === "ready" || record.state === "starting" ||
      record.state === "stopping"
    ? await core.driver.adopt({
      spec: record.spec,
      record: record.driver,
      containers: record.containers.map(({ spec, driver }) => ({ spec, record: driver })),
    })
    : undefined;
  const sandbox = new Sandbox(record.spec, record.createdAt);
  if (record.state === "starting") {
    // Its caller has been told nothing but that the connection broke, and will not come back.
    await adopted?.handle.stop(0);
    sandbox.deleted = true;
    await core.save(sandbox);
    return "removed";
  }
  core.sandboxes.set(record.spec.id, sandbox);
  const alive = record.state === "ready" ? adopted : undefined;
  if (alive !== undefined) {
    sandbox.state = sandboxReady(sandboxStarting({ kind: "created" }), alive.handle);
    watch(core, sandbox, alive.handle);
  } else if (record.state !== "created") {
    await adopted?.handle.stop(0);
    const exit = record.exit ?? lost(core);
    sandbox.state = { kind: "stopped", exit };
    sandbox.exits.settle(exit);
  }
  await recoverContainers(core, sandbox, record, alive);
  core.saveLater(sandbox);
  return sandbox.state.kind === "stopped" ? "stopped" : "adopted";
}

function lost(core: Core): Exit {
  return { status: 255, at: core.clock.now(), reason: "lost", message: "lost with its sandboxer" };
}

async function recoverContainers(
  core: Core,
  sandbox: Sandbox,
  record: SandboxRecord,
  alive: AdoptedSandbox | undefined,
): Promise<void> {
  for (const containerRecord of record.containers) {
    const { spec } = containerRecord;
    const adopted = alive?.containers.get(spec.id);
    if (adopted === undefined && spec.rootfs.kind === "mounts") {
      await core.mounter.unmount(spec.rootfs.target);
    }
    if (containerRecord.state === "creating") continue;
    const container = adopted === undefined
      ? deadContainer(core, sandbox, containerRecord)
      : liveContainer(core, sandbox, containerRecord, adopted);
    sandbox.containers.set(spec.id, container);
    core.owners.set(spec.id, sandbox);
  }
}

function deadContainer(core: Core, sandbox: Sandbox, record: ContainerRecord): Container {
  const container = new Container(record.spec, { kind: "stopped", handle: undefined });
  const exit = record.processes.find(({ execId }) => execId === "")?.exit ?? lost(core);
  recordExit(core, sandbox, container, container.init, exit);
  return container;
}

function liveContainer(
  core: Core,
  sandbox: Sandbox,
  record: ContainerRecord,
  adopted: AdoptedContainer,
): Container {
  const container = new Container(record.spec, liveState(record, adopted));
  for (const { execId, exec, exit } of record.processes) {
    if (execId !== "" && exec === undefined) continue;
    const process = exec === undefined ? container.init : new Process(execId, exec.stdio, exec);
    if (exec !== undefined) container.execs.set(execId, process);
    const running = adopted.processes.get(execId);
    if (running !== undefined) {
      process.state = processRunning({ kind: "created" }, running);
      followExit(core, sandbox, container, process, running);
    } else if (exit !== undefined || container.state.kind !== "created") {
      recordExit(core, sandbox, container, process, exit ?? lost(core));
    }
  }
  return container;
}

function liveState(
  record: ContainerRecord,
  { handle, processes }: AdoptedContainer,
): ContainerState {
  if (!processes.has("")) {
    return record.state === "created" ? { kind: "created", handle } : { kind: "stopped", handle };
  }
  return record.state === "paused" ? { kind: "paused", handle } : { kind: "running", handle };
}
