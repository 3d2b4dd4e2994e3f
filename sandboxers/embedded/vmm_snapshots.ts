/**
 * Snapshots of machines in this process: what a sandboxer needs of the driver for them, and what the
 * lifecycle is asked for when a sandbox is made of one.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ContainerSpec, SandboxSpec, StdioSpec } from "../lifecycle/spec.ts";
import type { VmmDriver } from "../vmm/driver.ts";
import type { SnapshotContainer, SnapshotRecord } from "../vmm/snapshot/record.ts";
import type { SnapshotRequest } from "../vmm/snapshot/restore.ts";
import { type TemporarySnapshot, temporarySnapshot } from "./temporary_snapshot.ts";
import { vmmSandboxSpec } from "./vmm_run_options.ts";

/** How long a snapshot may take where nobody gives it up, in milliseconds. */
const SNAPSHOT_MS = 600_000;

/** Takes snapshots, and makes sandboxes of them. */
export interface VmmSnapshots {
  /** Takes a snapshot of a sandbox; see {@link VmmDriver.snapshot}. */
  snapshot(id: string, directory: string, signal: AbortSignal | undefined): Promise<void>;
  /** Has the start of a sandbox be one of a snapshot; see {@link VmmDriver.startFrom}. */
  startFrom(spec: SandboxSpec, request: SnapshotRequest): void;
  /** A place for a snapshot that is used at once; disposing of it removes what is there. */
  temporary(): Promise<TemporarySnapshot>;
}

/** A kind without snapshots. */
export const NO_SNAPSHOTS: VmmSnapshots = {
  snapshot: () => Promise.reject(unimplemented()),
  startFrom: () => {
    throw unimplemented();
  },
  temporary: () => Promise.reject(unimplemented()),
};

function unimplemented(): SandboxError {
  return new SandboxError("Unimplemented", "cannot use snapshots: these sandboxes have none");
}

/**
 * The snapshots of a driver.
 *
 * @param driver The driver.
 * @param directory A directory of this program, which machines can pass through.
 */
export function vmmSnapshots(driver: VmmDriver, directory: string): VmmSnapshots {
  return {
    snapshot: async (id, to, signal) => {
      const late = AbortSignal.timeout(SNAPSHOT_MS);
      const end = signal === undefined ? late : AbortSignal.any([signal, late]);
      await driver.snapshot(id, to, end);
    },
    startFrom: (spec, request) => driver.startFrom(spec, request),
    temporary: () => temporarySnapshot(directory),
  };
}

/**
 * The sandbox that the lifecycle is asked for.
 *
 * @param id Its id.
 * @param record The snapshot.
 */
export function snapshotSandboxSpec(id: string, record: SnapshotRecord): SandboxSpec {
  const { hostname, network, resources } = record;
  return { ...vmmSandboxSpec(id, { hostname, network: { kind: network } }), resources };
}

/**
 * The container that the lifecycle is asked for. All else of it is in the machine's memory.
 *
 * @param saved The container in the snapshot.
 * @param place Its new ids, and where its streams go.
 */
export function snapshotContainerSpec(
  { command }: SnapshotContainer,
  place: { readonly id: string; readonly sandboxId: string; readonly stdio: StdioSpec },
): ContainerSpec {
  return {
    ...place,
    bundle: "",
    rootfs: { kind: "directory", path: "" },
    readonlyRootfs: false,
    process: {
      args: command,
      env: [],
      cwd: "/",
      user: { uid: 0, gid: 0, additionalGids: [] },
    },
    mounts: [],
    resources: {},
    annotations: {},
  };
}
