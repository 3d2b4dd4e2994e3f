/**
 * The flag of the kinds whose sandboxes write over an image in memory of the host.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";
import type { KindFlag } from "./flags.ts";

const MIB = 1 << 20;

/** What a sandbox may write, in MiB, unless the command line says otherwise. */
const DEFAULT_MIB = 1_024;
const MIB_MAX = 1_048_576;

/** The flag; its value is in bytes, and 0 for no bound of a sandbox's own. */
export const LAYER_FLAG: { readonly "layer-max": KindFlag<number> } = {
  "layer-max": {
    placeholder: "MIB",
    help: [
      "what a sandbox that is made without containerd may write over its",
      "image, in MiB of memory; 0 for as much as the file system of --dir",
      `has (default ${DEFAULT_MIB})`,
    ],
    read: (flag, text = `${DEFAULT_MIB}`) => {
      if (/^\d{1,7}$/.test(text) && Number(text) <= MIB_MAX) return Number(text) * MIB;
      throw new SandboxError(
        "InvalidArgument",
        `invalid ${flag} ${
          JSON.stringify(text)
        }: expected a whole number of MiB from 0 to ${MIB_MAX}`,
      );
    },
  },
};
