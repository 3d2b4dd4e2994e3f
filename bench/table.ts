/**
 * The summary that a run ends with: a table for people.
 *
 * @module
 */

import Table from "cli-table3";
import { numberText } from "./number_text.ts";
import type { Summary } from "./percentiles.ts";
import type { Result } from "./result.ts";

/**
 * Draws the results as a table of text: ours, each peer with our part of it, the goal, and whether it
 * is reached.
 *
 * @param results What was found.
 */
export function resultTable(results: readonly Result[]): string {
  const table = new Table({
    head: ["", "unit", "ours p50 / p90 / p99", "peers p50", "ratio", "goal", "reached"],
    style: { head: [], border: [] },
  });
  for (const result of results) {
    const peers = Object.entries(result.peers);
    table.push([
      result.name,
      result.unit,
      summaryText(result.ours),
      lines(peers.map(([name, { p50 }]) => `${name} ${numberText(p50)}`)),
      lines(peers.map(([, { p50 }]) => numberText(result.ours.p50 / p50))),
      (result.goal ?? "-").replaceAll("; ", "\n"),
      result.reached === null ? "-" : result.reached ? "yes" : "NO",
    ]);
  }
  return table.toString();
}

/** The three percentiles. */
function summaryText({ p50, p90, p99 }: Summary): string {
  return [p50, p90, p99].map(numberText).join(" / ");
}

/** Lines of a cell. */
function lines(texts: readonly string[]): string {
  return texts.length === 0 ? "-" : texts.join("\n");
}
