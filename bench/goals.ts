/**
 * The tables of goals: of all that was measured, what something is promised of.
 *
 * @module
 */

import { GOAL_TABLES, type GoalTable, type Result, type Unit } from "./result.ts";

/** One line of a table of goals, as it is written to the JSON file. */
export interface GoalRow {
  /** What was measured. */
  readonly what: string;
  /** The goals in words. */
  readonly goal: string;
  /** Our median. */
  readonly p50: number;
  /** Our 99th percentile. */
  readonly p99: number;
  /** The unit of both. */
  readonly unit: Unit;
  /** Our median divided by the peer's; null without a peer. */
  readonly ratio: number | null;
  /** Whether all goals are reached. */
  readonly reached: boolean;
}

/**
 * Fills the tables of goals in.
 *
 * @param results What was found; what has no goal is left out.
 */
export function goalTables(
  results: readonly Result[],
): Readonly<Record<GoalTable, readonly GoalRow[]>> {
  const rows = (table: GoalTable) =>
    results.filter((result) => result.table === table).flatMap(goalRow);
  const [base, wasm, vmm, quark] = GOAL_TABLES;
  return { [base]: rows(base), [wasm]: rows(wasm), [vmm]: rows(vmm), [quark]: rows(quark) };
}

function goalRow({ name, unit, ours, ratio, goal, reached }: Result): GoalRow[] {
  if (goal === null || reached === null) return [];
  return [{ what: name, goal, p50: ours.p50, p99: ours.p99, unit, ratio, reached }];
}
