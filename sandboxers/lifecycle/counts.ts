/**
 * How much a sandboxer holds at one moment: for metrics, and to see that nothing stays behind.
 *
 * @module
 */

import type { Core } from "./core.ts";

/** How much of everything there is. */
export interface Counts {
  /** Sandboxes, whatever their state. */
  readonly sandboxes: number;
  /** Containers, whatever their state. */
  readonly containers: number;
  /** Containers that are being made. */
  readonly creating: number;
  /** Container ids that are taken: those of `containers` and of `creating`. */
  readonly containerIds: number;
  /** Execs that were not deleted. */
  readonly execs: number;
  /** Callers that wait for an exit. */
  readonly waiters: number;
  /** State changes that run or wait for their turn. */
  readonly operations: number;
  /** Sandboxes that are not in the store as they are in memory. */
  readonly unwritten: number;
  /** Subscribers of events. */
  readonly listeners: number;
}

/** Counts what there is now. */
export function countsOf(core: Core): Counts {
  const sandboxes = [...core.sandboxes.values()];
  const containers = sandboxes.flatMap((sandbox) => [...sandbox.containers.values()]);
  const waiting = [...sandboxes, ...containers.flatMap((it) => [...it.processes()])];
  return {
    sandboxes: sandboxes.length,
    containers: containers.length,
    creating: sum([...core.creating.values()].map(({ size }) => size)),
    containerIds: core.owners.size,
    execs: sum(containers.map(({ execs }) => execs.size)),
    waiters: sum(waiting.map(({ exits }) => exits.size)),
    operations: sum([...sandboxes, ...containers].map(({ queue }) => queue.pending)),
    unwritten: core.unwritten,
    listeners: core.listeners,
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}
