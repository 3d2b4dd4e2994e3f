/**
 * Gets a running machine for a pod, the quickest way there is: a paused clone out of the pool, a
 * clone of a template, or a machine that is booted. What fails of the quicker ways is survived.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { Log } from "../log.ts";
import type { PodMachine } from "./config/machine.ts";
import type { Hypervisor, Machine, MachinePlace, MachineSpec, SavedMachine } from "./hypervisor.ts";
import type { MachinePlaces } from "./places.ts";

/** Saved machines; see template/. */
export interface SavedMachines {
  /**
   * A saved machine of a kind; made where it is missing.
   *
   * @returns Undefined where there is none and none can be made now.
   */
  get(spec: MachineSpec, signal: AbortSignal): Promise<SavedMachine | undefined>;
  /** Takes note that a clone of it failed: it may be damaged. */
  reject(saved: SavedMachine): void;
}

/** Machines that are kept ready; see template/. */
export interface ReadyMachines {
  /** One of a kind, paused, with its place; undefined where none is ready. */
  take(spec: MachineSpec): ReadyMachine | undefined;
}

/** A machine and where it lives. */
export interface PlacedMachine {
  /** The machine. */
  readonly machine: Machine;
  /** Its place, which goes with it. */
  readonly place: MachinePlace;
}

/** A machine that is ready, and what it was cloned from. */
export interface ReadyMachine extends PlacedMachine {
  /** The saved machine. */
  readonly saved: SavedMachine;
}

/** A clone that is of no use: what it was made of may be damaged. A machine that boots may be. */
export class BadClone extends SandboxError {
  /**
   * Wraps what was noticed.
   *
   * @param cause What went wrong.
   */
  constructor(cause: unknown) {
    const { code, message } = SandboxError.from(cause);
    super(code, message, { cause });
  }
}

/** A machine that was started. */
export interface StartedMachine extends PlacedMachine {
  /** How. */
  readonly origin: MachineOrigin;
  /** What it was cloned from, where that is known. */
  readonly saved?: SavedMachine | undefined;
}

/** How a machine was started. */
export type MachineOrigin = "pool" | "clone" | "boot";

/** What {@link Machines} works with. */
export interface MachinesOptions {
  /** Starts machines. */
  readonly hypervisor: Hypervisor;
  /** Gives places. */
  readonly places: MachinePlaces;
  /** Saved machines; missing where none are to be used. */
  readonly saved?: SavedMachines;
  /** Machines kept ready; missing where none are. */
  readonly ready?: ReadyMachines;
  /** Moves a process into a cgroup. */
  joinCgroup(cgroup: string, pid: number): Promise<void>;
  /** Where notes go. */
  readonly log: Log;
}

/** What a pod's machine is started with, beside its spec. */
export interface MachineRequest {
  /** The machine. */
  readonly machine: PodMachine;
  /** The pod's cgroup; empty for none. */
  readonly cgroup: string;
  /** The socket of the file server, for a machine with a shared tree. */
  readonly sharedTreeSocket?: string;
}

/** Gets machines. */
export class Machines {
  readonly #options: MachinesOptions;

  /** Starts nothing yet. */
  constructor(options: MachinesOptions) {
    this.#options = options;
  }

  /**
   * Gets a machine that runs.
   *
   * @param request What is needed.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} When none can be had; then nothing is left. {@link BadClone} where the file
   *   server of its shared tree has ended with a clone: a machine that boots needs another one.
   */
  async get(
    request: MachineRequest,
    signal: AbortSignal,
  ): Promise<StartedMachine> {
    const { spec, template } = request.machine;
    if (template && this.#options.hypervisor.clone !== undefined) {
      const ready = await this.#fromPool(request, signal);
      if (ready !== undefined) return ready;
      const saved = await this.#saved(spec, signal);
      const clone = saved && await this.#clone(saved, request, signal);
      if (clone !== undefined) return { ...clone, origin: "clone", saved };
    }
    const place = await this.#place(request);
    try {
      return {
        machine: await this.#options.hypervisor.boot(spec, place, signal),
        place,
        origin: "boot",
      };
    } catch (error) {
      await this.#options.places.free(place);
      throw error;
    }
  }

  /** Takes note that a machine did not become a guest: what it was cloned from may be damaged. */
  reject({ saved }: StartedMachine): void {
    if (saved !== undefined) this.#options.saved?.reject(saved);
  }

  async #fromPool(
    { machine, cgroup }: MachineRequest,
    signal: AbortSignal,
  ): Promise<StartedMachine | undefined> {
    const { ready, places, log, joinCgroup } = this.#options;
    const taken = machine.spec.sharedTree ? undefined : ready?.take(machine.spec);
    if (taken === undefined) return undefined;
    const place = { ...taken.place, cgroup };
    try {
      const joined = cgroup === "" ? undefined : joinCgroup(cgroup, taken.machine.pid);
      await Promise.all([joined, taken.machine.resume(signal)]);
      return { ...taken, place, origin: "pool" };
    } catch (error) {
      await taken.machine.stop();
      await places.free(place);
      throwIfAborted(signal, "cannot start a machine");
      log.warn("a machine that was kept ready cannot be used", { error: SandboxError.from(error) });
      return undefined;
    }
  }

  async #saved(spec: MachineSpec, signal: AbortSignal): Promise<SavedMachine | undefined> {
    try {
      return await this.#options.saved?.get(spec, signal);
    } catch (error) {
      throwIfAborted(signal, "cannot start a machine");
      this.#options.log.warn("there is no template: booting instead", {
        error: SandboxError.from(error),
      });
      return undefined;
    }
  }

  async #clone(
    saved: SavedMachine,
    request: MachineRequest,
    signal: AbortSignal,
  ): Promise<PlacedMachine | undefined> {
    const { hypervisor, places, log } = this.#options;
    const place = await this.#place(request);
    const memory = request.machine.spec.sharedTree ? "copy" : "private";
    try {
      const machine = await hypervisor.clone?.(saved, place, { paused: false, memory }, signal);
      if (machine !== undefined) return { machine, place };
    } catch (error) {
      await places.free(place);
      throwIfAborted(signal, "cannot start a machine");
      log.warn("a template cannot be cloned: booting instead", { error: SandboxError.from(error) });
      // Where there is no room the template is not to blame.
      if (SandboxError.from(error).code !== "ResourceExhausted") this.#options.saved?.reject(saved);
      if (request.sharedTreeSocket !== undefined) throw new BadClone(error);
      return undefined;
    }
    await places.free(place);
    return undefined;
  }

  async #place({ cgroup, sharedTreeSocket }: MachineRequest): Promise<MachinePlace> {
    return await this.#options.places.make(cgroup, sharedTreeSocket);
  }
}
