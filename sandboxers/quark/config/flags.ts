/**
 * The flag that only the quark sandboxer has.
 *
 * @module
 */

import type { KindFlag } from "../../flags.ts";
import type { QuarkConfig } from "./config.ts";
import { QUARK_CONFIG } from "./load.ts";

/** The flag, for the command line. Its value is the configuration that was read. */
export const QUARK_FLAGS: { readonly config: KindFlag<QuarkConfig> } = {
  config: QUARK_CONFIG.flag(),
};
