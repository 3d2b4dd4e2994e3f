/**
 * The flags that only the quark sandboxer has.
 *
 * @module
 */

import type { KindFlag } from "../../flags.ts";
import { LAYER_FLAG } from "../../layer_flag.ts";
import type { QuarkConfig } from "./config.ts";
import { QUARK_CONFIG } from "./load.ts";

/** The flags, for the command line. The value of `config` is the configuration that was read. */
export const QUARK_FLAGS: {
  readonly config: KindFlag<QuarkConfig>;
  readonly "layer-max": KindFlag<number>;
} = { config: QUARK_CONFIG.flag(), ...LAYER_FLAG };
