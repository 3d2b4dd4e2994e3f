/**
 * The flag that only the vmm sandboxer has.
 *
 * @module
 */

import type { KindFlag } from "../../flags.ts";
import type { VmmConfig } from "./config.ts";
import { VMM_CONFIG } from "./load.ts";

/** The flag, for the command line. Its value is the configuration that was read. */
export const VMM_FLAGS: { readonly config: KindFlag<VmmConfig> } = { config: VMM_CONFIG.flag() };
