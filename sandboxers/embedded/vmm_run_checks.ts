/**
 * What a program's user cannot do with machines, found before a VMM or a launcher says it in its own
 * words.
 *
 * @module
 */

import { dirname, resolve } from "node:path";
import { SandboxError } from "../lifecycle/errors.ts";
import type { VmmRunOptions, VmmSandboxOptions } from "./vmm_api.ts";

/** Who runs machines. */
export interface MachineUsers {
  /** The user of this program. */
  readonly uid: number;
  /** Whether VMMs run as users of their own. */
  readonly separate: boolean;
}

/** Refuses what cannot be had. */
export interface VmmChecks {
  /**
   * Looks at a sandbox.
   *
   * @throws {SandboxError} `FailedPrecondition`
   */
  sandbox(options: VmmSandboxOptions): void;
  /**
   * Looks at a container.
   *
   * @throws {SandboxError} `FailedPrecondition`, `PermissionDenied`, `NotFound`
   */
  run(options: VmmRunOptions): Promise<void>;
}

/** Refuses nothing. */
export const NO_CHECKS: VmmChecks = {
  sandbox: () => undefined,
  run: () => Promise.resolve(),
};

/** The bit of others to read a file, and to pass through a directory. */
const OTHERS_READ = 0o004;
const OTHERS_PASS = 0o001;

/**
 * Makes the checks.
 *
 * @param users Who runs machines.
 */
export function vmmChecks({ uid, separate }: MachineUsers): VmmChecks {
  const refuseFiles = (): never => {
    throw new SandboxError(
      "FailedPrecondition",
      "cannot show files of the host to a container: mounting them takes root: leave them out, " +
        "or run this as root",
    );
  };
  return {
    sandbox: ({ sharedTree = false }) => {
      if (uid !== 0 && sharedTree) refuseFiles();
    },
    run: async ({ image, mounts = [] }) => {
      if (uid !== 0 && mounts.length > 0) refuseFiles();
      if (separate && image !== undefined && image !== "") await checkReadable(resolve(image));
    },
  };
}

/** VMMs that are users of their own are others to every file. */
async function checkReadable(path: string): Promise<void> {
  const action = `cannot use image "${path}"`;
  for (const [at, bit, advice] of [...parents(path), [path, OTHERS_READ, "chmod o+r"] as const]) {
    let mode: number;
    try {
      mode = (await Deno.stat(at)).mode ?? 0;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) {
        throw new SandboxError("NotFound", `${action}: no such file`, { cause: error });
      }
      throw SandboxError.from(error, action);
    }
    if ((mode & bit) !== 0) continue;
    throw new SandboxError(
      "PermissionDenied",
      `${action}: machines run as other users, who cannot get to it: ${advice} "${at}", or set ` +
        `hypervisor.run_as to "root"`,
    );
  }
}

/** The directories above a path, the outermost first. */
function parents(path: string): (readonly [string, number, string])[] {
  const above = dirname(path);
  const own = [above, OTHERS_PASS, "chmod o+x"] as const;
  return above === path || above === "/" ? [own] : [...parents(above), own];
}
