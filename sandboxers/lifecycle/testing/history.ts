/**
 * The world of one simulated history, and one life of a sandboxer in it. The machine, its disk and
 * its mounts stay when a sandboxer crashes; everything else is lost with it.
 *
 * @module
 */

import type { Driver } from "../driver.ts";
import { Sandboxer } from "../sandboxer.ts";
import type { Exit } from "../spec.ts";
import { FileStore, type Store } from "../store.ts";
import { FakeClock } from "./fake_clock.ts";
import { DiskContents, FakeDisk } from "./fake_disk.ts";
import { FakeDriver } from "./fake_driver.ts";
import { FakeHost } from "./fake_host.ts";
import { FakeMounter, FakeMounts } from "./fake_mounter.ts";
import { SimulatedGate } from "./gate.ts";
import { Observer } from "./observer.ts";
import { faultOf, outlives, type Plan, planOf } from "./plan.ts";
import { Random } from "./random.ts";
import { Scheduler } from "./scheduler.ts";

/** Where the simulated store is. */
export const STATE = "/state";

/** Breaks the world on purpose, to see that the simulation notices. */
export interface Sabotage {
  /** Puts a broken driver in place of a good one. */
  driver?(driver: Driver): Driver;
  /** Puts a broken store in place of a good one. */
  store?(store: Store): Store;
}

/** What stays when a sandboxer crashes. */
export class World {
  /** All that is left to chance. */
  readonly random: Random;
  /** What is to happen. */
  readonly plan: Plan;
  /** In which order. */
  readonly scheduler = new Scheduler();
  /** The time. */
  readonly clock = new FakeClock();
  /** What runs on the machine. */
  readonly host = new FakeHost();
  /** What is mounted. */
  readonly mounts = new FakeMounts();
  /** What is stored. */
  readonly disk = new DiskContents();
  /** What went wrong that may not. */
  readonly violations: string[] = [];
  /** What happened, in order, for a person to read. */
  readonly trace: string[] = [];
  /** How often what happened, over all lives. */
  readonly seen = new Map<string, number>();
  /** Whether effects fail now. */
  faulty = true;
  /** Whether the disk has no room now. */
  diskFull = false;
  /** Set while a sandboxer recovers. */
  recovering = false;
  readonly #sabotage: Sabotage;

  /**
   * A world in which nothing has happened.
   *
   * @param seed Decides everything.
   * @param sabotage What is broken on purpose.
   */
  constructor(seed: number, sabotage: Sabotage = {}) {
    this.random = new Random(seed);
    this.plan = planOf(this.random);
    this.#sabotage = sabotage;
  }

  /** Whether the disk never fails in this history. */
  get diskIsGood(): boolean {
    return this.plan.faults.disk === 0 && this.plan.weights["disk full"] === 0;
  }

  /** Notes what happened. */
  note(what: string): void {
    this.trace.push(what);
  }

  /** Counts something that the simulation is to have met. */
  count(what: string, times = 1): void {
    this.seen.set(what, (this.seen.get(what) ?? 0) + times);
  }

  /** Begins a life. */
  begin(onExit: (key: string, exit: Exit) => void): Life {
    const { host, clock, random, plan } = this;
    const gate = new SimulatedGate(this.scheduler, (step) => this.#fault(step));
    const driver = new FakeDriver({
      host,
      gate,
      clock,
      capabilities: plan.capabilities,
      outlives: (sandboxId) => outlives(plan, sandboxId),
      deaf: () => random.chance(plan.deaf),
      obeys: () => random.chance(0.7),
      keepsDead: () => random.chance(0.5),
    });
    const mounter = new FakeMounter(this.mounts, { gate, busy: (target) => this.#busy(target) });
    const store = new FileStore(STATE, new FakeDisk(this.disk, gate));
    const sandboxer = new Sandboxer({
      driver: this.#sabotage.driver?.(driver) ?? driver,
      store: this.#sabotage.store?.(store) ?? store,
      mounter,
      clock,
    });
    return new Life(gate, sandboxer, onExit);
  }

  /** A fault for a step, or none. */
  #fault(step: string): unknown {
    if (!this.faulty || step === "disk.list" || step === "disk.read") return undefined;
    // A state directory that cannot be read at all is not for the lifecycle to get over.
    if (this.recovering && step === "disk.sync") return undefined;
    const { faults } = this.plan;
    const write = step === "disk.write" || step === "disk.mkdir";
    const probability = step.startsWith("driver.")
      ? faults.driver
      : step.startsWith("disk.")
      ? faults.disk
      : faults.mount;
    if (!(this.diskFull && write) && !this.random.chance(probability)) return undefined;
    this.count(`fault at ${step}`);
    if (this.recovering) this.count("fault in recovery");
    this.note(`  fails: ${step}`);
    return this.diskFull && write
      ? new Error("No space left on device (os error 28)")
      : faultOf(step, this.random);
  }

  /** A container that the driver still has holds its root file system open. */
  #busy(target: string): boolean {
    for (const sandbox of this.host.sandboxes.values()) {
      for (const { spec } of sandbox.containers.values()) {
        if (spec.rootfs.kind === "mounts" && spec.rootfs.target === target) return true;
      }
    }
    return false;
  }
}

/** A sandboxer process. */
export class Life {
  /** What it does in the world passes here. */
  readonly gate: SimulatedGate;
  /** The one under test. */
  readonly sandboxer: Sandboxer;
  readonly #onExit: (key: string, exit: Exit) => void;
  #observer: Observer | undefined;

  /**
   * A life that is not watched yet.
   *
   * @param gate Everything it does in the world passes here.
   * @param sandboxer The one under test.
   * @param onExit See {@link Observer}.
   */
  constructor(
    gate: SimulatedGate,
    sandboxer: Sandboxer,
    onExit: (key: string, exit: Exit) => void,
  ) {
    this.gate = gate;
    this.sandboxer = sandboxer;
    this.#onExit = onExit;
  }

  /** Watches from now on: after the recovery. */
  watch(): void {
    this.#observer = new Observer(this.sandboxer, this.#onExit);
    this.#observer.resume();
  }

  /** Stops watching. What was not allowed, and which events came. */
  unwatch(): Pick<Observer, "violations" | "counts"> {
    const observer = this.#observer;
    observer?.[Symbol.dispose]();
    this.#observer = undefined;
    return observer ?? { violations: [], counts: new Map() };
  }
}
