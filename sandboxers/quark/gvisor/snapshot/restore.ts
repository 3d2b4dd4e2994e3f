/**
 * Makes a sandbox of a snapshot: runsc makes the sandbox and then its containers one by one, and with
 * the last of them all of it goes on.
 *
 * @module
 */

import { SandboxError } from "../../../lifecycle/errors.ts";
import type { SavedContainer } from "../pod.ts";
import type { Runsc } from "../runsc.ts";
import type { RunscContainer } from "../runsc_state.ts";
import type { SnapshotRecord } from "./record.ts";

/** How long runsc may take, in milliseconds: without containers it reads all memory. */
const RESTORE_MS = 600_000;

/** A snapshot to make a sandbox of. */
export interface SnapshotRequest {
  /** The directory of the snapshot. */
  readonly directory: string;
  /** What it says of itself. */
  readonly record: SnapshotRecord;
  /** New ids of its containers, by those that they had. */
  readonly ids: ReadonlyMap<string, string>;
}

/**
 * The containers of a snapshot, by their new ids.
 *
 * @throws {SandboxError} `InvalidArgument` where one has none.
 */
export function savedContainers(
  { directory, record, ids }: SnapshotRequest,
): Map<string, SavedContainer> {
  return new Map(record.containers.map(({ id, name }) => {
    const given = ids.get(id);
    if (given !== undefined) return [given, { name, snapshot: directory }];
    throw new SandboxError("InvalidArgument", `container "${id}" of the snapshot has no new id`);
  }));
}

/**
 * Has runsc make the sandbox of a snapshot.
 *
 * @param runsc Calls runsc for it.
 * @param create The sandbox, with its bundle.
 * @param request The snapshot.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` where this runsc, or the way it is configured, is not
 *   that of the snapshot; as runsc says.
 */
export async function restoreSandbox(
  runsc: Runsc,
  create: RunscContainer & { readonly bundle: string },
  { directory, record }: SnapshotRequest,
  signal: AbortSignal,
): Promise<void> {
  const { overlay = "none" } = runsc.options;
  const { version } = await runsc.version();
  const facts = [["runsc", version, record.runsc], ["gvisor.overlay", overlay, record.overlay]];
  for (const [name, found, expected] of facts) {
    if (found === expected) continue;
    throw new SandboxError(
      "FailedPrecondition",
      `cannot use the snapshot in "${directory}": ${name} is "${found}" here, and was "${expected}" ` +
        "where it was taken",
    );
  }
  await runsc.restore(create, directory, { signal, timeoutMs: RESTORE_MS });
}
