/**
 * Where the launcher is: the one program that the wasm sandboxer may start. See launcher.h.
 *
 * @module
 */

import { fileURLToPath } from "node:url";

/** The file name of the launcher. */
export const LAUNCHER_FILE = "quasaur-launcher";

/** Its path: beside the source or the bundle, or installed for a compiled program. */
export const DEFAULT_LAUNCHER_PATH: string = Deno.build.standalone
  ? `/usr/lib/quasaur/${LAUNCHER_FILE}`
  : fileURLToPath(new URL(`./build/${LAUNCHER_FILE}`, import.meta.url));
