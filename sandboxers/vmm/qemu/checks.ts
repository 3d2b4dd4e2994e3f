/**
 * What is looked at before a QEMU is started, and what is said when it did not start.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { MachineSpec } from "../hypervisor.ts";

/** What an initrd's size has to be a multiple of, in bytes. */
const INITRD_GRAIN_BYTES = 4096;

/**
 * Looks whether the files that a machine boots from can be used.
 *
 * @throws {SandboxError} `FailedPrecondition` with the path.
 */
export async function checkBootFiles(action: string, spec: MachineSpec): Promise<void> {
  await checkFile(action, "kernel", spec.kernel);
  const { size } = await checkFile(action, "initrd", spec.initrd);
  // qboot puts its ACPI tables behind the initrd into the same page of low memory; where they do
  // not fit, the guest finds no devices and hangs.
  if (spec.machine === "microvm" && size % INITRD_GRAIN_BYTES !== 0) {
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: the initrd "${spec.initrd}" has ${size} bytes: for a microvm it has to be padded ` +
        `with zeros to a multiple of ${INITRD_GRAIN_BYTES}`,
    );
  }
}

async function checkFile(action: string, what: string, path: string): Promise<Deno.FileInfo> {
  const info = await Deno.stat(path).catch((thrown) => {
    const why = thrown instanceof Deno.errors.NotFound ? "is missing" : messageOf(thrown);
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: the ${what} "${path}" ${why}: run "deno task setup" or name another in the config`,
      { cause: thrown },
    );
  });
  if (info.isFile) return info;
  throw new SandboxError("FailedPrecondition", `${action}: the ${what} "${path}" is no file`);
}

/**
 * Why a QEMU did not start, in its own words.
 *
 * @param action What was being done.
 * @param thrown What was noticed.
 * @param end How its process ended; undefined where it had to be killed.
 * @param said The end of its log.
 */
export function startError(
  action: string,
  thrown: unknown,
  end: string | undefined,
  said: string,
): SandboxError {
  const error = SandboxError.from(thrown);
  const why = end === undefined ? error.message : `QEMU did not start: ${end}`;
  const words = said === "" ? "" : `; it said: ${said}`;
  // That it has ended is noticed as a broken connection; it is what it was given that was wrong.
  const code = end === undefined && error.code !== "Unavailable"
    ? error.code
    : "FailedPrecondition";
  return new SandboxError(code, `${action}: ${why}${words}`, { cause: error });
}

function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
