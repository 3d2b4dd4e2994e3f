/**
 * What a benchmark found: the values of each contender, summed up and held against the goals.
 *
 * @module
 */

import { summarize, type Summary } from "./percentiles.ts";

/** The name of what is measured in every series: this project's own. */
export const OURS = "ours";

/** How the name of a contender ends whose values are multiples of what was measured. */
export const EXTRAPOLATED = " (extrapolated)";

/** The unit of a measurement; `left` counts things that should be gone. */
export type Unit = "ms" | "KiB" | "MB" | "MiB" | "MB/s" | "calls/s" | "pods" | "left";

/**
 * Something to reach: the median (or another percentile) is at most, or at least, a number, or the
 * median is at most a part of a peer's median.
 */
export type Goal =
  | { readonly kind: "value"; readonly atMost: number; readonly of?: "p50" | "p99" }
  | { readonly kind: "least"; readonly atLeast: number }
  | {
    readonly kind: "ratio";
    readonly peer: string;
    readonly atMost: number;
    /** How a person writes the limit, such as `1/30`. */
    readonly written: string;
  };

/** One thing that was measured. */
export interface Measurement {
  /** What, in a few words. */
  readonly name: string;
  /** The unit of all values. */
  readonly unit: Unit;
  /** The measured values by contender; {@link OURS} is one of them. */
  readonly series: ReadonlyMap<string, readonly number[]>;
  /** The peer that the ratio is of; missing where there is none to compare with. */
  readonly peer?: string;
  /** What is to be reached; missing where nothing is promised. */
  readonly goals?: readonly Goal[];
}

/**
 * The tables of goals: `base` of the project as a whole, `wasm` of the wasm sandboxer in depth, `vmm`
 * and `quark` of the sandboxers of these names.
 */
export const GOAL_TABLES = ["base", "wasm", "vmm", "quark"] as const;

/** The name of a table of goals. */
export type GoalTable = typeof GOAL_TABLES[number];

/** A measurement summed up, as it is written to the JSON file. */
export interface Result {
  /** What was measured, in a few words. */
  readonly name: string;
  /** The table that its goals are in. */
  readonly table: GoalTable;
  /** The unit of all values. */
  readonly unit: Unit;
  /** This project's own values. */
  readonly ours: Summary;
  /** The peer that {@link Result.ratio} is of; null where there is none. */
  readonly peer: string | null;
  /** The values of all others, by name. */
  readonly peers: Readonly<Record<string, Summary>>;
  /** Our median divided by the peer's; null without a peer. */
  readonly ratio: number | null;
  /** The goals in words; null where there are none. */
  readonly goal: string | null;
  /** What all goals together allow at most, in the unit of the values; null where nothing does. */
  readonly limit: number | null;
  /** Whether all goals are reached; null where there are none. */
  readonly reached: boolean | null;
}

/**
 * Sums a measurement up.
 *
 * @param measurement What was measured; every contender that it names has at least one value.
 * @param table The table that its goals are in.
 * @throws {Error} When our own values or those of a named peer are missing.
 */
export function resultOf(measurement: Measurement, table: GoalTable = "base"): Result {
  const { name, unit, series, peer, goals = [] } = measurement;
  const summaries = new Map([...series].map(([who, values]) => [who, summarize(values)]));
  const median = (who: string): number => {
    const summary = summaries.get(who);
    if (summary === undefined) throw new Error(`cannot judge "${name}": no values of "${who}"`);
    return summary.p50;
  };
  const ours = summaries.get(OURS);
  if (ours === undefined) throw new Error(`cannot judge "${name}": no values of "${OURS}"`);
  const reached = goals.map((goal) => isReached(goal, ours, median));
  return {
    name,
    table,
    unit,
    ours,
    peer: peer ?? null,
    peers: Object.fromEntries([...summaries].filter(([who]) => who !== OURS)),
    ratio: peer === undefined ? null : ours.p50 / median(peer),
    goal: goals.length === 0 ? null : goals.map((goal) => goalText(goal, unit)).join("; "),
    limit: limitOf(goals, median),
    reached: goals.length === 0 ? null : reached.every((one) => one),
  };
}

/** Whether a goal is reached. */
function isReached(goal: Goal, ours: Summary, median: (who: string) => number): boolean {
  switch (goal.kind) {
    case "value":
      return ours[goal.of ?? "p50"] <= goal.atMost;
    case "least":
      return ours.p50 >= goal.atLeast;
    case "ratio":
      return ours.p50 / median(goal.peer) <= goal.atMost;
  }
}

/** The lowest of all upper limits. */
function limitOf(goals: readonly Goal[], median: (who: string) => number): number | null {
  const limits = goals.flatMap((goal) => {
    if (goal.kind === "least") return [];
    return [goal.kind === "value" ? goal.atMost : goal.atMost * median(goal.peer)];
  });
  return limits.length === 0 ? null : Math.min(...limits);
}

/** A goal in words. */
function goalText(goal: Goal, unit: Unit): string {
  switch (goal.kind) {
    case "value":
      return `${goal.of === "p99" ? "p99 " : ""}<= ${goal.atMost} ${unit}`;
    case "least":
      return `>= ${goal.atLeast} ${unit}`;
    case "ratio":
      return `<= ${goal.written} of ${goal.peer}`;
  }
}
