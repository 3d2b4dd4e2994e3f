/**
 * Tells what was found: as a table, and as the files that the caller wants.
 *
 * @module
 */

import { isDrawn, resultChart } from "./chart.ts";
import type { Host } from "./host.ts";
import type { BenchOptions } from "./options.ts";
import { goalTables } from "./goals.ts";
import { GOAL_TABLES, type Result } from "./result.ts";
import { resultTable } from "./table.ts";

/**
 * Writes the files that the caller wants.
 *
 * @param results What was found.
 * @param host What it was measured on.
 * @param files Where JSON and chart go; missing for nowhere.
 * @returns The summary for people.
 */
export async function report(
  results: readonly Result[],
  host: Host,
  files: Pick<BenchOptions, "json" | "svg">,
): Promise<string> {
  if (files.json !== undefined) {
    const json = { host, goals: goalTables(results), results };
    await Deno.writeTextFile(files.json, `${JSON.stringify(json, null, 2)}\n`);
  }
  if (files.svg !== undefined && results.some(isDrawn)) {
    await Deno.writeTextFile(files.svg, await resultChart(results, host));
  }
  const judged = results.filter(({ reached }) => reached !== null);
  const reached = judged.filter((result) => result.reached).length;
  const written = [files.json, files.svg].filter((path) => path !== undefined);
  if (results.length === 0) return "Nothing was measured";
  const tables = GOAL_TABLES.map((table) => results.filter((result) => result.table === table));
  return [
    ...tables.filter((table) => table.length > 0).map(resultTable),
    `${reached} of ${judged.length} goals reached on ${host.cpu}, ${host.cores} cores`,
    ...written.length === 0 ? [] : [`Written: ${written.join(", ")}`],
  ].join("\n");
}
