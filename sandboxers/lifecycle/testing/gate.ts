/**
 * Where the fakes stop before each of their effects. What happens there (nothing, a delay, a fault)
 * a test or the simulation decides.
 *
 * @module
 */

import type { Scheduler } from "./scheduler.ts";

/** Passed before each effect of a fake. */
export interface Gate {
  /**
   * Resolves when the effect may happen; rejects with the fault that is to happen instead.
   *
   * @param step What comes, such as `driver.start`.
   */
  pass(step: string): Promise<void>;
  /** Like {@link pass}, for what cannot fail: news that are on their way. */
  delay(step: string): Promise<void>;
}

/** Lets everything pass at once. */
export const openGate: Gate = {
  pass: () => Promise.resolve(),
  delay: () => Promise.resolve(),
};

/** A step that is being held, see {@link TestGate.hold}. */
export interface Hold {
  /** Resolves when somebody stands at the gate. */
  readonly reached: Promise<void>;
  /** Lets it pass, with a fault where one is given. */
  release(fault?: unknown): void;
}

/** A gate for tests of single situations: chosen steps fail or are held, all others pass. */
export class TestGate implements Gate {
  /** The steps that came, in order. */
  readonly steps: string[] = [];
  #closed = false;
  readonly #faults = new Map<string, unknown[]>();
  readonly #holds = new Map<string, { arrive(): void; readonly open: Promise<void> }>();

  /** Makes a step fail the next times it comes, once for each fault. */
  fail(step: string, ...faults: readonly unknown[]): void {
    this.#faults.set(step, [...this.#faults.get(step) ?? [], ...faults]);
  }

  /** Holds a step the next time it comes. */
  hold(step: string): Hold {
    const reached = Promise.withResolvers<void>();
    const open = Promise.withResolvers<void>();
    // Whoever stood there may have given up: then nobody hears of the fault.
    open.promise.catch(() => undefined);
    this.#holds.set(step, { arrive: () => reached.resolve(), open: open.promise });
    return {
      reached: reached.promise,
      release: (fault) => fault === undefined ? open.resolve() : open.reject(fault),
    };
  }

  /** Lets nothing pass any more, not even with a fault: the sandboxer has crashed. */
  close(): void {
    this.#closed = true;
  }

  /** See {@link Gate.pass}. */
  async pass(step: string): Promise<void> {
    if (this.#closed) return await new Promise(() => undefined);
    this.steps.push(step);
    const hold = this.#holds.get(step);
    if (hold !== undefined) {
      this.#holds.delete(step);
      hold.arrive();
      await hold.open;
    }
    const faults = this.#faults.get(step);
    if (faults !== undefined && faults.length > 0) throw faults.shift();
  }

  /** See {@link Gate.delay}. */
  delay(step: string): Promise<void> {
    return this.pass(step);
  }
}

/** The gate of one life of a sandboxer in a simulation: it ends with it. */
export class SimulatedGate implements Gate {
  /** Set when the sandboxer has crashed: nothing passes any more, not even with a fault. */
  dead = false;
  readonly #scheduler: Scheduler;
  readonly #fault: (step: string) => unknown;

  /**
   * A gate that is alive.
   *
   * @param scheduler Decides when a step is taken.
   * @param fault Decides what goes wrong with it: undefined for nothing.
   */
  constructor(scheduler: Scheduler, fault: (step: string) => unknown) {
    this.#scheduler = scheduler;
    this.#fault = fault;
  }

  /** See {@link Gate.pass}. */
  async pass(step: string): Promise<void> {
    await this.delay(step);
    const fault = this.#fault(step);
    if (fault !== undefined) throw fault;
  }

  /** See {@link Gate.delay}. */
  async delay(step: string): Promise<void> {
    await this.#scheduler.step(step, this);
  }
}
