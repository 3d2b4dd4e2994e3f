/**
 * Makes FIFOs by system call, in this process.
 *
 * @module
 */

import { systemError } from "./native/errno.ts";
import type { System } from "./native/system.ts";

/** Only this user can open them. */
const MODE = 0o600;

/** Makes FIFOs. */
export class SystemFifos {
  readonly #system: Pick<System, "makeFifo">;

  /**
   * Makes none yet.
   *
   * @param system Makes the calls.
   */
  constructor(system: Pick<System, "makeFifo">) {
    this.#system = system;
  }

  /**
   * Makes FIFOs that only this user can open. Where one cannot be made none is.
   *
   * @param paths Where: absolute paths where nothing is yet.
   * @throws {SandboxError} With the code that fits the error number.
   */
  async make(paths: readonly string[]): Promise<void> {
    const made: string[] = [];
    for (const path of paths) {
      const error = -this.#system.makeFifo(path, MODE);
      if (error === 0) {
        made.push(path);
        continue;
      }
      for (const each of made) await Deno.remove(each).catch(() => undefined);
      throw systemError(`cannot make the FIFO "${path}"`, error);
    }
  }
}
