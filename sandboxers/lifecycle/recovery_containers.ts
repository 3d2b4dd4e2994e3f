/**
 * Brings the containers of a recovered sandbox, and their processes, to a state that is true.
 *
 * @module
 */

import { Container, type ContainerState } from "./container.ts";
import { keepRemains, unmount } from "./container_operations.ts";
import type { Core } from "./core.ts";
import type { AdoptedContainer, AdoptedSandbox } from "./driver.ts";
import { attempt } from "./errors.ts";
import { endExecs, followExit, killQuietly, lost, recordExit, tellExit } from "./exits.ts";
import { Process, processRestored, processRunning } from "./process.ts";
import type { ContainerRecord, ProcessRecord } from "./record.ts";
import type { Sandbox } from "./sandbox.ts";

/** What became of the sandbox of the containers. */
export interface Fate {
  /** Set where it runs on. */
  readonly adopted?: AdoptedSandbox;
  /** False where the driver may still hold its dead containers, and so their root file systems. */
  readonly released: boolean;
}

/** Brings back the containers of a sandbox. */
export async function recoverContainers(
  core: Core,
  sandbox: Sandbox,
  records: readonly ContainerRecord[],
  { adopted, released }: Fate,
): Promise<void> {
  for (const record of records) {
    const live = adopted?.containers.get(record.spec.id);
    if (record.state === "creating") {
      await discard(core, sandbox, record, live, released);
      continue;
    }
    if (live === undefined && released) await unmountQuietly(core, record);
    const container = new Container(record.spec, stateOf(record, live));
    if (record.resources !== undefined) container.resources = record.resources;
    sandbox.containers.set(record.spec.id, container);
    core.owners.set(record.spec.id, sandbox);
    recoverProcesses(core, sandbox, container, record, live);
  }
}

/** Undoes a container that was being made; where that fails it stays, stopped, to be deleted. */
async function discard(
  core: Core,
  sandbox: Sandbox,
  { spec }: ContainerRecord,
  live: AdoptedContainer | undefined,
  released: boolean,
): Promise<void> {
  try {
    await attempt(`cannot delete container "${spec.id}"`, () => live?.handle.delete());
    if (released) await unmount(core, spec);
    else keepRemains(core, sandbox, spec, undefined);
  } catch (error) {
    core.log.warn("cannot clean up after a container", {
      container: spec.id,
      error: String(error),
    });
    keepRemains(core, sandbox, spec, live?.handle);
  }
}

/** Takes away the mounts of a dead container; where that fails its delete tries again. */
async function unmountQuietly(core: Core, { spec }: ContainerRecord): Promise<void> {
  try {
    await unmount(core, spec);
  } catch (error) {
    core.log.warn("cannot unmount", { container: spec.id, error: String(error) });
  }
}

function stateOf(record: ContainerRecord, live: AdoptedContainer | undefined): ContainerState {
  if (live === undefined) return { kind: "stopped", handle: undefined };
  const { handle, processes } = live;
  const init = record.processes.find(({ execId }) => execId === "");
  if (init?.exit !== undefined) return { kind: "stopped", handle };
  if (processes.has("")) {
    const paused = live.paused ?? record.state === "paused";
    return { kind: paused ? "paused" : "running", handle };
  }
  return { kind: record.state === "created" ? "created" : "stopped", handle };
}

function recoverProcesses(
  core: Core,
  sandbox: Sandbox,
  container: Container,
  record: ContainerRecord,
  live: AdoptedContainer | undefined,
): void {
  const unknown = new Map(live?.processes);
  for (const processRecord of record.processes) {
    const { execId, exec, exit, pid } = processRecord;
    const process = exec === undefined ? container.init : new Process(execId, exec.stdio, exec);
    if (exec !== undefined) container.execs.set(execId, process);
    const handle = unknown.get(execId);
    unknown.delete(execId);
    if (exit !== undefined) {
      // It was told already and never changes, even where the driver did not get as far.
      process.state = processRestored(pid, exit);
      process.exits.settle(exit);
      if (handle !== undefined) killQuietly(core, container, handle);
    } else if (handle !== undefined) {
      process.state = processRunning({ kind: "created" }, handle);
      process.isAdopted = true;
      followExit(core, sandbox, container, process, handle);
    } else if (mustHaveEnded(container, processRecord)) {
      const ended = lost(core, "it ended with its sandboxer");
      process.state = processRestored(pid, ended);
      process.exits.settle(ended);
      tellExit(core, sandbox, container, process);
    }
  }
  for (const handle of unknown.values()) killQuietly(core, container, handle);
  if (container.state.kind !== "stopped") return;
  recordExit(core, sandbox, container, container.init, lost(core, "it ended with its sandboxer"));
  endExecs(core, sandbox, container);
}

/** Whether a process that the driver does not know has ended; else it can still be started. */
function mustHaveEnded(container: Container, { execId }: ProcessRecord): boolean {
  return container.state.kind !== "created" || execId !== "";
}
