/**
 * Snapshots of gVisor's sandboxes in this process: what a sandboxer needs of the driver for them, and
 * what the lifecycle is asked for when a sandbox is made of one.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ContainerSpec, SandboxSpec, StdioSpec } from "../lifecycle/spec.ts";
import type { SnapshotContainer } from "../quark/gvisor/snapshot/record.ts";
import type { QuarkSnapshots } from "../quark/snapshots.ts";
import { type TemporarySnapshot, temporarySnapshot } from "./temporary_snapshot.ts";

/** Takes snapshots, and makes sandboxes of them. */
export interface GvisorSnapshots extends Pick<QuarkSnapshots, "take" | "startFrom"> {
  /** A place for a snapshot that is used at once. */
  temporary(): Promise<TemporarySnapshot>;
}

/** A driver without snapshots. */
export const NO_SNAPSHOTS: GvisorSnapshots = {
  take: () => Promise.reject(unimplemented()),
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
 * @param snapshots The driver's.
 * @param directory A directory of this program.
 */
export function gvisorSnapshots(snapshots: QuarkSnapshots, directory: string): GvisorSnapshots {
  return {
    take: (id, to, signal) => snapshots.take(id, to, signal),
    startFrom: (spec: SandboxSpec, request) => snapshots.startFrom(spec, request),
    temporary: () => temporarySnapshot(directory),
  };
}

/**
 * The container that the lifecycle is asked for. All else of it is in the sandbox's memory.
 *
 * @param saved The container in the snapshot.
 * @param place Its new ids, and where its streams go.
 */
export function savedContainerSpec(
  { command, rootfs, readonlyRootfs, resources }: SnapshotContainer,
  place: { readonly id: string; readonly sandboxId: string; readonly stdio: StdioSpec },
): ContainerSpec {
  return {
    ...place,
    bundle: "",
    rootfs: { kind: "directory", path: rootfs },
    readonlyRootfs,
    process: { args: command, env: [], cwd: "/", user: { uid: 0, gid: 0, additionalGids: [] } },
    mounts: [],
    resources,
    annotations: {},
  };
}
