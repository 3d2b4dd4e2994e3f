/**
 * systemd, where it runs: units are told of and started, or stopped and forgotten.
 *
 * @module
 */

import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";

/** What systemctl is asked to do, in words. */
export type ServiceCommand = readonly string[];

/** Whether systemd runs this machine: sd_booted(3). */
export async function isSystemdRunning(): Promise<boolean> {
  return await Deno.stat("/run/systemd/system").then(({ isDirectory }) => isDirectory, () => false);
}

/**
 * What starts sandboxers now and after each start of the machine, and has containerd read its
 * configuration again.
 *
 * @param units The units' names.
 * @param containerd Whether containerd has to read its configuration again.
 */
export function startCommands(units: readonly string[], containerd: boolean): ServiceCommand[] {
  return [
    ["systemctl", "daemon-reload"],
    ["systemctl", "enable", "--now", ...units],
    ...(containerd ? [["systemctl", "restart", "containerd.service"]] : []),
  ];
}

/**
 * What stops sandboxers and forgets them.
 *
 * @param units The units' names.
 */
export function stopCommands(units: readonly string[]): ServiceCommand[] {
  return [["systemctl", "disable", "--now", ...units]];
}

/**
 * Runs systemctl.
 *
 * @param command What it is asked to do.
 * @throws {SandboxError} `FailedPrecondition` where it is missing or fails.
 */
export async function runServiceCommand([program = "", ...args]: ServiceCommand): Promise<void> {
  const words = [program, ...args].join(" ");
  const output = await new Deno.Command(program, { args, stdin: "null" }).output().catch(
    (cause: unknown) => {
      throw SandboxError.from(cause, `cannot run ${words}`, "FailedPrecondition");
    },
  );
  if (output.success) return;
  const said = new TextDecoder().decode(output.stderr).trim();
  throw new SandboxError("FailedPrecondition", `cannot run ${words}: ${said}`);
}
