/**
 * What a benchmark found: the values of each contender, summed up and held against the goals.
 *
 * @module
 */

import { summarize, type Summary } from "./percentiles.ts";

/** The name of what is measured in every series: this project's own. */
export const OURS = "ours";

/** The unit of a measurement. */
export type Unit = "ms" | "MiB" | "calls/s";

/** Something to reach: the median is at most a number, or at most a part of a peer's median. */
export type Goal =
  | { readonly kind: "value"; readonly atMost: number }
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

/** A measurement summed up, as it is written to the JSON file. */
export interface Result {
  /** What was measured, in a few words. */
  readonly name: string;
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
  /** Whether all goals are reached; null where there are none. */
  readonly reached: boolean | null;
}

/**
 * Sums a measurement up.
 *
 * @param measurement What was measured; every contender that it names has at least one value.
 * @throws {Error} When our own values or those of a named peer are missing.
 */
export function resultOf(measurement: Measurement): Result {
  const { name, unit, series, peer, goals = [] } = measurement;
  const summaries = new Map([...series].map(([who, values]) => [who, summarize(values)]));
  const median = (who: string): number => {
    const summary = summaries.get(who);
    if (summary === undefined) throw new Error(`cannot judge "${name}": no values of "${who}"`);
    return summary.p50;
  };
  const ours = summaries.get(OURS);
  if (ours === undefined) throw new Error(`cannot judge "${name}": no values of "${OURS}"`);
  const reached = goals.map((goal) =>
    (goal.kind === "value" ? ours.p50 : ours.p50 / median(goal.peer)) <= goal.atMost
  );
  return {
    name,
    unit,
    ours,
    peer: peer ?? null,
    peers: Object.fromEntries([...summaries].filter(([who]) => who !== OURS)),
    ratio: peer === undefined ? null : ours.p50 / median(peer),
    goal: goals.length === 0 ? null : goals.map((goal) => goalText(goal, unit)).join("; "),
    reached: goals.length === 0 ? null : reached.every((one) => one),
  };
}

/** A goal in words. */
function goalText(goal: Goal, unit: Unit): string {
  return goal.kind === "value" ? `<= ${goal.atMost} ${unit}` : `<= ${goal.written} of ${goal.peer}`;
}
