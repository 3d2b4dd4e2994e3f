/**
 * Compares what a sandboxer holds with what its store holds, and with what the next one makes of it.
 *
 * @module
 */

import type { Sandboxer } from "../sandboxer.ts";
import { FileStore } from "../store.ts";
import type { ContainerView, ProcessView, SandboxView } from "../view.ts";
import { type DiskContents, FakeDisk } from "./fake_disk.ts";
import { STATE } from "./history.ts";

/** Everything that can be seen of a sandboxer at one moment. */
export interface Snapshot {
  /** By id. */
  readonly sandboxes: ReadonlyMap<string, SandboxView>;
  /** By id. */
  readonly containers: ReadonlyMap<string, ContainerView>;
  /** By container id and exec id, with a slash between. */
  readonly processes: ReadonlyMap<string, ProcessView>;
}

/** Takes a snapshot. */
export function snapshot(sandboxer: Sandboxer): Snapshot {
  const sandboxes = new Map(sandboxer.sandboxes().map((view) => [view.spec.id, view]));
  const containers = new Map<string, ContainerView>();
  const processes = new Map<string, ProcessView>();
  for (const { containerIds } of sandboxes.values()) {
    for (const id of containerIds) {
      const container = sandboxer.container(id);
      containers.set(id, container);
      for (const execId of ["", ...container.execIds]) {
        processes.set(`${id}/${execId}`, sandboxer.process(id, execId));
      }
    }
  }
  return { sandboxes, containers, processes };
}

/** How the store differs from a snapshot, in words. */
export async function compareStore(memory: Snapshot, disk: DiskContents): Promise<string[]> {
  const { records, damaged } = await new FileStore(STATE, new FakeDisk(disk)).load();
  const stored: Record<string, unknown> = {};
  for (const { spec, state, exit, createdAt, containers } of records) {
    stored[spec.id] = { spec, state, exit, createdAt, containers: containers.length };
    for (const container of containers) {
      stored[container.spec.id] = { spec: container.spec, state: container.state };
      for (const process of container.processes) {
        const { execId, pid } = process;
        const key = `${container.spec.id}/${execId}`;
        stored[key] = { state: process.state, pid, exit: process.exit };
      }
    }
  }
  const held: Record<string, unknown> = {};
  for (const { spec, state, exit, createdAt, containerIds } of memory.sandboxes.values()) {
    held[spec.id] = { spec, state, exit, createdAt, containers: containerIds.length };
  }
  for (const { spec, state } of memory.containers.values()) held[spec.id] = { spec, state };
  for (const [key, { state, pid, exit }] of memory.processes) {
    const stored = state === "stopped" ? "exited" : state === "paused" ? "running" : state;
    held[key] = { state: stored, pid, exit };
  }
  return [
    ...damaged.map(({ id, reason }) => `the record of ${id} is damaged: ${reason}`),
    ...differences("stored", stored, held),
  ];
}

/** How the next sandboxer differs from what is to be expected of it, in words. */
export function compareLives(
  before: Snapshot,
  after: Snapshot,
  outlives: (sandboxId: string) => boolean,
): string[] {
  const expected: Record<string, unknown> = {};
  const loose = new Set<string>();
  for (const { spec, state, exit, createdAt, containerIds } of before.sandboxes.values()) {
    // What could not be started was forgotten by its caller.
    if (state === "failed") continue;
    const ended = state === "stopping";
    expected[spec.id] = {
      spec,
      state: ended ? "stopped" : state,
      exit: ended ? 255 : exit?.status,
      createdAt,
      containerIds,
    };
  }
  for (const [id, { spec, state, namespace, execIds }] of before.containers) {
    const { sandboxId } = spec;
    const dead = !outlives(sandboxId) || before.sandboxes.get(sandboxId)?.state !== "ready";
    expected[id] = { spec, state: dead ? "stopped" : state, namespace, execIds };
    for (const execId of ["", ...execIds]) {
      const process = before.processes.get(`${id}/${execId}`);
      if (process === undefined) continue;
      // An exec that outlived its init was to be killed: it is lost, or killed now.
      if (state === "stopped" && process.exit === undefined) loose.add(`${id}/${execId}`);
      // An exec that was not started is not waited for: nobody can tell that it never ran.
      const ends = process.exit === undefined && (dead || execId !== "" && process.pid === 0);
      expected[`${id}/${execId}`] = ends
        ? { state: "stopped", pid: process.pid, exit: 255 }
        : { state: process.state, pid: process.pid, exit: process.exit?.status };
    }
  }
  const found: Record<string, unknown> = {};
  for (const { spec, state, exit, createdAt, containerIds } of after.sandboxes.values()) {
    found[spec.id] = { spec, state, exit: exit?.status, createdAt, containerIds };
  }
  for (const [id, { spec, state, namespace, execIds }] of after.containers) {
    found[id] = { spec, state, namespace, execIds };
  }
  for (const [key, { state, pid, exit }] of after.processes) {
    found[key] = loose.has(key) ? expected[key] : { state, pid, exit: exit?.status };
  }
  return differences("after the restart", found, expected);
}

function differences(
  where: string,
  found: Readonly<Record<string, unknown>>,
  expected: Readonly<Record<string, unknown>>,
): string[] {
  const texts: string[] = [];
  for (const key of new Set([...Object.keys(found), ...Object.keys(expected)])) {
    const a = JSON.stringify(found[key]);
    const b = JSON.stringify(expected[key]);
    if (a !== b) texts.push(`${where}: ${key} is ${a}, expected ${b}`);
  }
  return texts;
}
