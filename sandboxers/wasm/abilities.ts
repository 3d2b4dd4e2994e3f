/**
 * What the wasm kind adds to the management API: modules without containerd.
 *
 * @module
 */

import type { KindAbilities } from "../management/ports.ts";
import { SystemFifos } from "./fifo_maker.ts";
import type { System } from "./native/system.ts";

/**
 * What the kind adds.
 *
 * @param system Makes system calls.
 */
export function wasmAbilities(system: System): KindAbilities {
  return {
    runs: {
      fifos: new SystemFifos(system),
      network: { kind: "host" },
      // Modules know no PATH.
      env: [],
    },
  };
}
