/**
 * A hypervisor without machines, for tests of templates and the pool: what is saved are small files,
 * and each effect passes a gate where a test can hold it or make it fail. Machines live in a world
 * that outlives the fake, as real ones outlive a sandboxer.
 *
 * @module
 */

import { SandboxError } from "../../../lifecycle/errors.ts";
import type { Json } from "../../../lifecycle/spec.ts";
import type { Gate } from "../../../lifecycle/testing/gate.ts";
import type {
  CloneOptions,
  Hypervisor,
  Machine,
  MachineExit,
  MachinePlace,
  MachineSpec,
  SavedMachine,
} from "../../hypervisor.ts";

/** The bytes of a fake guest's memory. */
export const MEMORY_TEXT = "memory of a guest";

/** A machine of a fake. */
export class FakeMachine implements Machine {
  /** See {@link Machine.pid}. */
  readonly pid: number;
  /** See {@link Machine.record}. */
  readonly record: Json;
  /** See {@link Machine.agentSocket}. */
  readonly agentSocket: string;
  /** See {@link Machine.taps}. */
  readonly taps: readonly string[] = [];
  /** Whether it stands still. */
  paused: boolean;
  /** How it ended; undefined while it runs. */
  end: MachineExit | undefined;
  readonly #exit = Promise.withResolvers<MachineExit>();
  #gate: Gate;

  /** A machine that runs, or stands still. */
  constructor(pid: number, readonly place: MachinePlace, paused: boolean, gate: Gate) {
    this.pid = pid;
    this.record = { pid };
    this.agentSocket = `${place.directory}/agent.sock`;
    this.paused = paused;
    this.#gate = gate;
  }

  /** See {@link Machine.exited}. */
  get exited(): Promise<MachineExit> {
    return this.#exit.promise;
  }

  /** Ends it as if by itself. */
  crash(reason: MachineExit["reason"] = "crash", message = "killed"): void {
    this.end ??= { reason, at: 0, message };
    this.#exit.resolve(this.end);
  }

  /** Belongs to another sandboxer from now on. */
  adoptedBy(gate: Gate): this {
    this.#gate = gate;
    return this;
  }

  /** See {@link Machine.resume}. */
  async resume(): Promise<void> {
    await this.#gate.pass("resume");
    this.paused = false;
  }

  /** See {@link Machine.pause}. */
  async pause(): Promise<void> {
    await this.#gate.pass("pause");
    this.paused = true;
  }

  /** Not in this fake. */
  attachDisk(): Promise<{ readonly serial: string }> {
    return Promise.reject(new SandboxError("Unimplemented", "no disks"));
  }

  /** Not in this fake. */
  detachDisk(): Promise<void> {
    return Promise.reject(new SandboxError("Unimplemented", "no disks"));
  }

  /** See {@link Machine.save}. */
  async save(directory: string): Promise<void> {
    await this.#gate.pass("save");
    if (this.end !== undefined) throw new SandboxError("Unavailable", "the machine has ended");
    await Deno.writeTextFile(`${directory}/state`, `state of ${this.pid}`);
    this.crash("stopped", "");
  }

  /** See {@link Machine.stop}. */
  async stop(): Promise<void> {
    await this.#gate.delay("stop");
    this.crash("stopped", "");
  }

  /** See {@link Machine.release}. */
  release(): void {}
}

/** Where the machines of fakes live. */
export class FakeWorld {
  /** All that there ever were. */
  readonly machines: FakeMachine[] = [];

  /** Those that run. */
  get running(): FakeMachine[] {
    return this.machines.filter(({ end }) => end === undefined);
  }
}

/** A hypervisor without machines. */
export class FakeHypervisor implements Hypervisor {
  /** See {@link Hypervisor.name}. */
  readonly name = "fake";
  readonly #world: FakeWorld;
  readonly #gate: Gate;

  /**
   * Makes no machine yet.
   *
   * @param world Where its machines live.
   * @param gate Passed before each effect: `boot`, `clone`, `save`, `stop`, `adopt` and so on.
   */
  constructor(world: FakeWorld, gate: Gate) {
    this.#world = world;
    this.#gate = gate;
  }

  /** See {@link Hypervisor.version}. */
  version(): Promise<string> {
    return Promise.resolve("1.0");
  }

  /** See {@link Hypervisor.boot}. */
  async boot(_spec: MachineSpec, place: MachinePlace): Promise<Machine> {
    await this.#gate.pass("boot");
    if (place.memoryFile !== undefined) await Deno.writeTextFile(place.memoryFile, MEMORY_TEXT);
    return this.#add(place, false);
  }

  /** See {@link Hypervisor.clone}. */
  async clone(
    saved: SavedMachine,
    place: MachinePlace,
    options: CloneOptions,
  ): Promise<Machine> {
    await this.#gate.pass("clone");
    await Deno.stat(`${saved.directory}/state`);
    return this.#add(place, options.paused);
  }

  /** See {@link Hypervisor.adopt}. */
  async adopt(record: Json): Promise<Machine | undefined> {
    await this.#gate.pass("adopt");
    return this.#world.running
      .find((machine) => JSON.stringify(machine.record) === JSON.stringify(record))
      ?.adoptedBy(this.#gate);
  }

  #add(place: MachinePlace, paused: boolean): FakeMachine {
    const machine = new FakeMachine(this.#world.machines.length + 100, place, paused, this.#gate);
    this.#world.machines.push(machine);
    return machine;
  }
}
