/**
 * Decides in which order things happen in a simulation: everything that takes time waits here, and
 * one at a time is let go.
 *
 * @module
 */

import type { Random } from "./random.ts";

/** Whose steps they are; those of a dead owner are never taken. */
export interface StepOwner {
  /** Whether it has ended. */
  readonly dead: boolean;
}

interface Step {
  readonly name: string;
  readonly owner: StepOwner;
  take(): void;
}

/** The steps that could be taken next. */
export class Scheduler {
  #steps: Step[] = [];

  /** How many steps could be taken. */
  get size(): number {
    return this.#steps.length;
  }

  /** Resolves when the step is taken. */
  step(name: string, owner: StepOwner): Promise<void> {
    if (owner.dead) return new Promise(() => undefined);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#steps.push({ name, owner, take: resolve });
    return promise;
  }

  /** Takes one step and names it; undefined when there is none. */
  take(random: Random): string | undefined {
    const index = random.below(this.#steps.length);
    const [step] = this.#steps.splice(index, 1);
    step?.take();
    return step?.name;
  }

  /** Forgets the steps of owners that have died. */
  bury(): void {
    this.#steps = this.#steps.filter(({ owner }) => !owner.dead);
  }
}

/** Lets promises run on: each turn is one round of the microtask queue. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await null;
}
