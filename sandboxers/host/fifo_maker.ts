/**
 * Makes FIFOs by the launcher, for sandboxers without FFI.
 *
 * @module
 */

import type { Launcher } from "./launcher.ts";

/** Makes FIFOs. */
export class LauncherFifos {
  readonly #launcher: Pick<Launcher, "run">;

  /**
   * Makes none yet.
   *
   * @param launcher The launcher.
   */
  constructor(launcher: Pick<Launcher, "run">) {
    this.#launcher = launcher;
  }

  /**
   * Makes FIFOs that only this user can open. Where one cannot be made none is.
   *
   * @param paths Where: absolute paths where nothing is yet, at most 16.
   * @throws {SandboxError} As the launcher says.
   */
  async make(paths: readonly string[]): Promise<void> {
    if (paths.length > 0) await this.#launcher.run("cannot make FIFOs", ["mkfifo", ...paths]);
  }
}
