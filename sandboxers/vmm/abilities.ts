/**
 * What the vmm kind adds to the management API: machines without containerd, and snapshots of them.
 *
 * @module
 */

import { dirname } from "node:path";
import { LauncherFifos } from "../host/fifo_maker.ts";
import type { KindAbilities } from "../management/ports.ts";
import { LINUX_ENV, type SavedSandbox } from "../management/runs/abilities.ts";
import type { VmmConfig } from "./config/config.ts";
import type { VmmDriver } from "./driver.ts";
import type { Vmm } from "./open.ts";
import { readSnapshotRecord } from "./snapshot/record.ts";

/** The name server of the network behind address translation: it asks those of the host. */
const USER_DNS = ["10.0.2.3"];

/** How long a snapshot may take, in milliseconds. */
const SNAPSHOT_MS = 600_000;

/**
 * What the kind adds.
 *
 * @param vmm The kind.
 * @param config Its configuration.
 */
export function vmmAbilities(
  { driver, launcher, holder }: Vmm,
  config: VmmConfig,
): KindAbilities {
  return {
    runs: {
      fifos: new LauncherFifos(launcher),
      ...(holder === undefined ? {} : { keeper: holder }),
      network: { kind: "none" },
      userDns: { servers: USER_DNS, searches: [], options: [] },
      env: LINUX_ENV,
    },
    snapshots: {
      // On disk, beside the images, which snapshots have links to.
      directory: `${dirname(config.storage.cacheDirectory)}/snapshots`,
      take: async ({ sandboxId, directory, signal }) => {
        const late = AbortSignal.timeout(SNAPSHOT_MS);
        await driver.snapshot(sandboxId, directory, AbortSignal.any([signal, late]));
      },
      read: (directory) => readSnapshot(driver, directory),
    },
  };
}

async function readSnapshot(driver: VmmDriver, directory: string): Promise<SavedSandbox> {
  const record = await readSnapshotRecord(directory);
  const { hostname, network, resources, containers } = record;
  return {
    spec: { hostname, network: { kind: network }, resources },
    containers: containers.map(({ id, command, streams }) => ({ id, args: command, streams })),
    startAs: (spec, ids) => driver.startFrom(spec, { directory, record, ids }),
  };
}
