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
 * @param layerBytesMax What a sandbox may write over its image; 0 for no bound of its own.
 */
export function wasmAbilities(system: System, layerBytesMax: number): KindAbilities {
  return {
    runs: {
      fifos: new SystemFifos(system),
      network: { kind: "host" },
      ...(layerBytesMax === 0 ? {} : { layerBytesMax }),
      // Modules know no PATH.
      env: [],
    },
  };
}
