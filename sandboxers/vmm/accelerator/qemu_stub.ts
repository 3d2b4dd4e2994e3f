/**
 * Runs the tiny guest with QEMU, as confined as every other VMM.
 *
 * @module
 */

import { type ConfinedProgram, spawnConfined } from "../../host/confined.ts";
import type { Launcher } from "../../host/launcher.ts";
import type { ResidentProcess } from "../../host/resident.ts";
import type { MachinePlace } from "../hypervisor.ts";
import type { AcceleratorOptions, StubRun } from "./accelerator.ts";
import { EXIT_PORT, stubGuest } from "./stub_guest.ts";

/** What a VMM's last words are cut off to, in characters. */
const MESSAGE_CHARACTERS = 500;

/** What runs it, and where. */
export interface QemuStubOptions {
  /** QEMU, an absolute path. */
  readonly program: string;
  /** Where it runs: a directory that is there, and the user. */
  readonly place: Pick<MachinePlace, "directory" | "user">;
  /** Starts it; confined by the host launcher, see {@link confinedStub}. */
  readonly spawn: (program: ConfinedProgram, signal: AbortSignal) => Promise<
    Pick<ResidentProcess, "status" | "kill">
  >;
}

/**
 * What runs the tiny guest by the host launcher.
 *
 * @param launcher The launcher.
 * @param program QEMU, an absolute path.
 * @param place Where it runs.
 */
export function confinedStub(
  launcher: Launcher,
  program: string,
  place: QemuStubOptions["place"],
): AcceleratorOptions["runStub"] {
  const spawn: QemuStubOptions["spawn"] = (confined, signal) =>
    spawnConfined(launcher, confined, signal);
  return (run, signal) => runStub(run, { program, place, spawn }, signal);
}

/**
 * Runs the tiny guest.
 *
 * @param run Which way.
 * @param options With what.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` where QEMU is missing; `Cancelled`.
 */
export async function runStub(
  run: StubRun,
  options: QemuStubOptions,
  signal: AbortSignal,
): ReturnType<AcceleratorOptions["runStub"]> {
  const { place, program } = options;
  const kernel = `${place.directory}/stub.elf`;
  const log = `${place.directory}/stub-${run.accelerator}.log`;
  await Deno.writeFile(kernel, stubGuest());
  await Deno.chmod(kernel, 0o444);
  // Whoever asks more than once wants what is said now.
  await Deno.remove(log).catch(() => {});
  const child = await options.spawn({
    program,
    args: stubArguments(run.accelerator, kernel),
    directory: place.directory,
    log,
    user: place.user,
    kvm: run.accelerator === "kvm",
    network: { taps: 0 },
    cgroup: "",
    diesWithParent: true,
  }, signal);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill("SIGKILL");
  }, run.timeoutMs);
  const onAbort = () => child.kill("SIGKILL");
  signal.addEventListener("abort", onAbort, { once: true });
  // Given up while it was being started, it would not be told.
  if (signal.aborted) onAbort();
  try {
    const { code } = await child.status;
    signal.throwIfAborted();
    const words = await Deno.readTextFile(log).catch(() => "");
    const message = words.trim().slice(-MESSAGE_CHARACTERS) || `exit status ${code}`;
    return isLate ? { status: undefined, message: "" } : { status: code, message };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}

/**
 * QEMU's command line for the tiny guest.
 *
 * @param accelerator Who executes it.
 * @param kernel The guest's file.
 */
export function stubArguments(accelerator: "kvm" | "tcg", kernel: string): string[] {
  return [
    "-M",
    "microvm,acpi=off,pic=off,pit=off,rtc=off",
    ...["-accel", accelerator, "-m", "16", "-nodefaults", "-no-user-config", "-display", "none"],
    ...["-no-reboot", "-device", `isa-debug-exit,iobase=${EXIT_PORT},iosize=4`],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-kernel", kernel],
  ];
}
