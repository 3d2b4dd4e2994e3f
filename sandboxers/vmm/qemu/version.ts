/**
 * Asks a QEMU which version it is.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { logTail, removeFile } from "./own_files.ts";
import type { VmmLauncher } from "./vmm_launcher.ts";

/** How long it may take to say so, in milliseconds. */
const VERSION_MS = 10_000;

/**
 * The version of a QEMU, such as `11.1.2 (Debian 1:11.1.2+ds-3)`.
 *
 * @param vmms Starts it.
 * @param program The QEMU, an absolute path.
 * @param directory Where its answer is kept for the moment.
 * @throws {SandboxError} `FailedPrecondition` where it is missing or is no QEMU.
 */
export async function qemuVersion(
  vmms: VmmLauncher,
  program: string,
  directory: string,
): Promise<string> {
  const action = `cannot ask "${program}" for its version`;
  const log = `${directory}/version-${crypto.randomUUID().slice(0, 8)}.log`;
  try {
    const process = await vmms.start({
      program,
      args: ["--version"],
      place: { directory, user: undefined, cgroup: "" },
      log,
      network: "host",
      kvm: false,
    }).catch((thrown) => {
      throw missingProgram(action, program, thrown);
    });
    const end = await process.waitForEnd(VERSION_MS);
    if (end === undefined) await process.kill();
    const said = await logTail(log);
    const version = /^QEMU emulator version ([^;]{1,200})/.exec(said)?.[1];
    if (version !== undefined) return version;
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: it is no QEMU: ${said === "" ? "it says nothing" : `it says "${said}"`}`,
    );
  } finally {
    await removeFile(log).catch(() => undefined);
  }
}

/**
 * Says what to do where QEMU could not be started.
 *
 * @param action What was being done.
 * @param program The QEMU.
 * @param thrown What was caught.
 */
export function missingProgram(action: string, program: string, thrown: unknown): SandboxError {
  const error = SandboxError.from(thrown, action);
  const isMissing = error.code === "NotFound" ||
    /no such (file|program)|not found/i.test(error.message);
  if (!isMissing) return error;
  return new SandboxError(
    "FailedPrecondition",
    `${action}: "${program}" is missing: install the Debian package qemu-system-x86 or set ` +
      "hypervisor.path",
    { cause: error },
  );
}
