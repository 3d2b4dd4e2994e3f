/**
 * What the quark kind adds to the management API: sandboxes without containerd, and snapshots of them.
 *
 * @module
 */

import { LauncherFifos } from "../host/fifo_maker.ts";
import type { KindAbilities } from "../management/ports.ts";
import { LINUX_ENV, type SavedSandbox } from "../management/runs/abilities.ts";
import { readSnapshotRecord } from "./gvisor/snapshot/record.ts";
import type { QuarkKind } from "./open.ts";
import type { QuarkSnapshots } from "./snapshots.ts";

/**
 * What the kind adds.
 *
 * @param kind The kind.
 * @param layerBytesMax What a sandbox may write over its image; 0 for no bound of its own.
 */
export function quarkAbilities(
  { launcher, holder, snapshots, directory }: QuarkKind,
  layerBytesMax: number,
): KindAbilities {
  return {
    runs: {
      fifos: new LauncherFifos(launcher),
      ...(holder === undefined ? {} : { keeper: holder }),
      network: { kind: "none" },
      ...(layerBytesMax === 0 ? {} : { layerBytesMax }),
      // The sandbox's limits are those of its cgroup.
      cgroups: {
        parentOf: (sandboxId) => `/quasaur-run-${sandboxId}`,
        remove: (cgroup) => launcher.removeCgroup(cgroup),
      },
      env: LINUX_ENV,
    },
    snapshots: {
      directory: `${directory}/snapshots`,
      take: (order) => snapshots.take(order.sandboxId, order.directory, order.signal),
      read: (from) => readSnapshot(snapshots, from),
    },
  };
}

async function readSnapshot(snapshots: QuarkSnapshots, directory: string): Promise<SavedSandbox> {
  const record = await readSnapshotRecord(directory);
  const { hostname, resources, containers } = record;
  return {
    spec: { hostname, network: { kind: "none" }, resources },
    containers: containers.map(({ id, command, streams, rootfs, ...rest }) => ({
      id,
      args: command,
      streams: { ...streams, terminal: false },
      rootfs: { kind: "directory", path: rootfs },
      readonlyRootfs: rest.readonlyRootfs,
      resources: rest.resources,
    })),
    startAs: (spec, ids) => snapshots.startFrom(spec, { directory, record, ids }),
  };
}
