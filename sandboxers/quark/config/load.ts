/**
 * The configuration of application kernels, from its file and the command line.
 *
 * @module
 */

import { KindConfig } from "../../config/kind_config.ts";
import { DEFAULT_CONFIG_FILE, type QuarkConfig } from "./config.ts";
import { FOREIGN_KEYS, QUARK_SCHEMA } from "./schema.ts";

/** Flags of runsc that the sandboxer sets itself. */
const OWN_FLAGS =
  /^--?(root|log|log-format|debug|debug-log|platform|network|overlay2?|file-access|directfs|net-raw|oci-seccomp|ignore-cgroups)(=|$)/;

/** Reads, checks and prints it. */
export const QUARK_CONFIG: KindConfig<QuarkConfig> = new KindConfig({
  kind: "quark",
  schema: QUARK_SCHEMA,
  file: DEFAULT_CONFIG_FILE,
  foreign: FOREIGN_KEYS,
  check,
});

/** Finds values that do not go together. */
function check(
  { gvisor }: QuarkConfig,
  problem: (path: string, message: string) => void,
): void {
  for (const flag of gvisor.extraArgs) {
    if (!OWN_FLAGS.test(flag)) continue;
    problem("gvisor.extra_args", `has "${flag}": the sandboxer sets that flag itself`);
  }
}
