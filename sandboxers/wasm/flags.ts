/**
 * The flags that only the wasm sandboxer has.
 *
 * @module
 */

import { absolutePath, type KindFlag, oneOf } from "../flags.ts";
import { LAYER_FLAG } from "../layer_flag.ts";
import { SYSTEM_CACHE_DIRECTORY } from "./compiled/open.ts";

/** How guests run: as compiled code as soon as there is some, or always interpreted. */
export type EngineMode = "compiled" | "interpreter";

/** The flags, for the command line. */
export const WASM_FLAGS: {
  readonly "engine-mode": KindFlag<EngineMode>;
  readonly "cache-dir": KindFlag<string>;
  readonly "layer-max": KindFlag<number>;
} = {
  ...LAYER_FLAG,
  "engine-mode": {
    placeholder: "MODE",
    help: [
      "compiled: modules are interpreted until they are compiled, in the",
      "background; interpreter: always interpreted (default compiled)",
    ],
    read: (flag, text = "compiled") => oneOf(flag, text, ["compiled", "interpreter"]),
  },
  "cache-dir": {
    placeholder: "PATH",
    help: [
      "directory of compiled code, which only root may write to",
      `(default ${SYSTEM_CACHE_DIRECTORY})`,
    ],
    read: (flag, text = SYSTEM_CACHE_DIRECTORY) => absolutePath(flag, text),
  },
};
