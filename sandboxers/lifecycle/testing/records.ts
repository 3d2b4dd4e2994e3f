/**
 * Stored records for tests.
 *
 * @module
 */

import type { ContainerRecord, ProcessRecord, SandboxRecord } from "../record.ts";
import { containerSpec, sandboxSpec } from "./specs.ts";

/** The record of a sandbox that was created. */
export function sandboxRecord(id: string, changes: Partial<SandboxRecord> = {}): SandboxRecord {
  return {
    version: 1,
    spec: sandboxSpec(id),
    createdAt: 1_700_000_000_000,
    state: "created",
    left: false,
    driver: null,
    containers: [],
    ...changes,
  };
}

/** The record of a container that was created. */
export function containerRecord(
  id: string,
  sandboxId: string,
  changes: Partial<ContainerRecord> = {},
): ContainerRecord {
  return {
    spec: containerSpec(id, sandboxId),
    state: "created",
    driver: null,
    processes: [processRecord("")],
    ...changes,
  };
}

/** The record of a process that was not started. */
export function processRecord(
  execId: string,
  changes: Partial<ProcessRecord> = {},
): ProcessRecord {
  return { execId, state: "created", pid: 0, ...changes };
}
