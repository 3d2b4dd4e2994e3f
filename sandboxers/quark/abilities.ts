/**
 * What the quark kind adds to the management API: sandboxes without containerd.
 *
 * @module
 */

import { LauncherFifos } from "../host/fifo_maker.ts";
import type { KindAbilities } from "../management/ports.ts";
import { LINUX_ENV } from "../management/runs/abilities.ts";
import type { QuarkKind } from "./open.ts";

/**
 * What the kind adds.
 *
 * @param kind The kind.
 */
export function quarkAbilities({ launcher, holder }: QuarkKind): KindAbilities {
  return {
    runs: {
      fifos: new LauncherFifos(launcher),
      ...(holder === undefined ? {} : { keeper: holder }),
      network: { kind: "none" },
      // The sandbox's limits are those of its cgroup.
      cgroups: {
        parentOf: (sandboxId) => `/quasaur-run-${sandboxId}`,
        remove: (cgroup) => launcher.removeCgroup(cgroup),
      },
      env: LINUX_ENV,
    },
  };
}
