/**
 * The flag that only the vmm sandboxer has.
 *
 * @module
 */

import { absolutePath, type KindFlag } from "../../flags.ts";
import { DEFAULT_CONFIG_FILE, type VmmConfig } from "./config.ts";
import { loadVmmConfig } from "./load.ts";

/** The flag, for the command line. Its value is the configuration that was read. */
export const VMM_FLAGS: { readonly config: KindFlag<VmmConfig> } = {
  config: {
    placeholder: "FILE",
    short: "c",
    help: [
      "configuration, in TOML; `quasaur config vmm` prints what is in",
      `effect (default ${DEFAULT_CONFIG_FILE}, which need not be there)`,
    ],
    read: (flag, text) =>
      loadVmmConfig({ file: text === undefined ? undefined : absolutePath(flag, text) }),
    logLevel: ({ sandbox }) => sandbox.logLevel,
  },
};
