/**
 * The table of metrics as a page shows it, made of their definitions. Run it to bring the page up to
 * date: `deno run -A sandboxers/telemetry/reference.ts`.
 *
 * @module
 */

import { type MetricDefinition, METRICS } from "./definitions.ts";
import { metricNames } from "./registry.ts";

/** What the generated part of the page stands between. */
const BEGIN = "<!-- metrics: begin; made by sandboxers/telemetry/reference.ts -->";
const END = "<!-- metrics: end -->";

/** The page. */
const PAGE = new URL("../../docs/telemetry.md", import.meta.url);

/** All metrics as a table in Markdown. */
export function metricsTable(): string {
  const rows = metricNames().map((name) => rowOf(name, METRICS[name]));
  const head = ["| Metric | Type | Labels | What it says |", "| --- | --- | --- | --- |"];
  return [...head, ...rows].join("\n");
}

function rowOf(name: string, { type, labels, help, kinds }: MetricDefinition): string {
  const only = kinds === undefined ? "" : ` (${kinds.join(", ")})`;
  const names = labels.map((label) => `\`${label}\``).join(", ");
  return `| \`${name}\` | ${type} | ${names} | ${help}${only} |`;
}

/**
 * A page with its table brought up to date.
 *
 * @param page The text of the page.
 * @throws {TypeError} Where the page has no place for it.
 */
export function withMetricsTable(page: string): string {
  const [begin, end] = [page.indexOf(BEGIN), page.indexOf(END)];
  if (begin < 0 || end < begin) throw new TypeError("The page has no place for the table");
  const before = page.slice(0, begin + BEGIN.length);
  return `${before}\n\n${metricsTable()}\n\n${page.slice(end)}`;
}

if (import.meta.main) {
  await Deno.writeTextFile(PAGE, withMetricsTable(await Deno.readTextFile(PAGE)));
}
