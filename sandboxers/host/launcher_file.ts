/**
 * Where the host launcher is: the one program by which a sandboxer without FFI reaches what Deno's
 * permissions do not. See native/launcher.h.
 *
 * @module
 */

import { fileURLToPath } from "node:url";

/** The file name of the launcher. */
export const HOST_LAUNCHER_FILE = "quasaur-host-launcher";

/** Its path: beside the source or the bundle, or installed for a compiled program. */
export const DEFAULT_HOST_LAUNCHER_PATH: string = Deno.build.standalone
  ? `/usr/lib/quasaur/${HOST_LAUNCHER_FILE}`
  : fileURLToPath(new URL(`./native/build/${HOST_LAUNCHER_FILE}`, import.meta.url));

/** Of a program that waits for ever, by its path from the launcher's directory. */
export const PAUSE_FILE = "pause-root/pause";

/** A root file system with nothing but that program, as `/pause`. */
export const DEFAULT_PAUSE_ROOT: string = `${
  DEFAULT_HOST_LAUNCHER_PATH.slice(0, -HOST_LAUNCHER_FILE.length)
}pause-root`;
