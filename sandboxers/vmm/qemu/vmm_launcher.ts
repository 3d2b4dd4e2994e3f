/**
 * How QEMU is started and ended: through the host launcher, which confines it. What QEMU says goes
 * to a file, for it outlives this process.
 *
 * @module
 */

import { FIRST_TAP_DESCRIPTOR, spawnConfined } from "../../host/confined.ts";
import type { Launcher, ProcessIdentity } from "../../host/launcher.ts";
import type { MachinePlace } from "../hypervisor.ts";

/** A VMM to start. */
export interface VmmStart {
  /** The program, an absolute path. */
  readonly program: string;
  /** Its arguments, without its name. */
  readonly args: readonly string[];
  /** Where and as whom it runs. */
  readonly place: Pick<MachinePlace, "directory" | "user" | "cgroup">;
  /** The file that takes what it writes, an absolute path. */
  readonly log: string;
  /** `host`: this process's network; else none but this many tap devices. */
  readonly network: "host" | { readonly taps: number };
  /** Whether it uses /dev/kvm. */
  readonly kvm: boolean;
}

/** A VMM's process. */
export interface VmmProcess {
  /** Which one it is. */
  readonly identity: ProcessIdentity;
  /**
   * Waits until it has ended.
   *
   * @param timeoutMs How long, in milliseconds.
   * @param signal Ends the waiting early.
   * @returns How it ended, for people; undefined where it still runs.
   */
  waitForEnd(timeoutMs: number, signal?: AbortSignal): Promise<string | undefined>;
  /** Kills it and waits until it is gone. Does nothing where it has ended. */
  kill(): Promise<void>;
}

/** Starts VMMs. */
export interface VmmLauncher {
  /** The first descriptor of the tap devices in a VMM. */
  readonly firstTapFd: number;
  /**
   * Starts one.
   *
   * @throws {SandboxError} `FailedPrecondition` where the program is missing; `Cancelled`.
   */
  start(start: VmmStart, signal?: AbortSignal): Promise<VmmProcess>;
  /** Finds one that an earlier process started; undefined where it has ended. */
  find(identity: ProcessIdentity): Promise<VmmProcess | undefined>;
}

/** How long a killed VMM may take to be gone, in milliseconds. */
const KILL_MS = 10_000;
/** How often to look whether a VMM that is not our child still runs, in milliseconds. */
const LOOK_MS = 50;

/**
 * Starts VMMs confined.
 *
 * @param launcher The host launcher.
 * @param options Whether VMMs are killed when this process ends, however it ends (default: no).
 */
export function confinedVmms(
  launcher: Launcher,
  { diesWithParent = false }: { readonly diesWithParent?: boolean } = {},
): VmmLauncher {
  return {
    firstTapFd: FIRST_TAP_DESCRIPTOR,
    start: async ({ program, args, place, log, network, kvm }, signal) => {
      // A translator touches little of what it has: a huge page for its code, and one for a table of
      // the firmware's, are 4 MiB of each paused clone. Guests that a processor runs profit from them.
      const smallPages = !kvm;
      const child = await spawnConfined(
        launcher,
        { program, args, log, network, kvm, smallPages, diesWithParent, ...placeOf(place) },
        signal,
      );
      return childProcess(child);
    },
    find: async (identity) =>
      await launcher.alive(identity) ? strangerProcess(launcher, identity) : undefined,
  };
}

function placeOf({ directory, user, cgroup }: VmmStart["place"]): VmmStart["place"] {
  return { directory, user, cgroup };
}

/** A child as {@link childProcess} takes it. */
export interface VmmChild {
  /** Which process it is. */
  readonly identity: ProcessIdentity;
  /** Settles when it has ended. */
  readonly status: Promise<Deno.CommandStatus>;
  /** Sends a signal; does nothing where it has ended. */
  kill(signal: Deno.Signal): void;
  /** Lets this process end without it. */
  unref(): void;
}

/** A VMM that is a child of this process. */
export function childProcess(child: VmmChild): VmmProcess {
  const ended = child.status.then(howItEnded);
  const waitForEnd: VmmProcess["waitForEnd"] = (timeoutMs, signal) =>
    within(ended, timeoutMs, signal);
  // A machine does not keep this process from ending.
  child.unref();
  return {
    identity: child.identity,
    waitForEnd,
    kill: async () => {
      child.kill("SIGKILL");
      await waitForEnd(KILL_MS);
    },
  };
}

function strangerProcess(launcher: Launcher, identity: ProcessIdentity): VmmProcess {
  return {
    identity,
    waitForEnd: async (timeoutMs, signal) => {
      for (const end = Date.now() + timeoutMs;;) {
        if (!await launcher.alive(identity)) return "it ended";
        if (Date.now() >= end || signal?.aborted === true) return undefined;
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    },
    kill: () => launcher.kill(identity, KILL_MS),
  };
}

function howItEnded({ code, signal }: Deno.CommandStatus): string {
  return signal === null ? `it ended with code ${code}` : `it was killed by ${signal}`;
}

async function within<T>(
  promise: Promise<T>,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), timeoutMs);
  const onAbort = () => resolve(undefined);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}
