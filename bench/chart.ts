/**
 * Draws results as a chart: a row of bars for each, on a scale of its own.
 *
 * @module
 */

import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { Host } from "./host.ts";
import { numberText } from "./number_text.ts";
import { EXTRAPOLATED, OURS, type Result } from "./result.ts";

/** The colours of our own bars, of all others, and of the limit that a goal sets. */
const COLORS = { ours: "#0b7285", peers: "#adb5bd", limit: "#c92a2a" };

/** Units of which more is better. */
const MORE_IS_BETTER: readonly string[] = ["MB/s", "calls/s", "pods"];

/** The names of the contenders, as wide in all charts so that the bars begin below each other. */
const LABELS = { minExtent: 110, maxExtent: 110 };

/** One bar. */
interface Bar {
  readonly who: string;
  readonly p50: number;
  readonly p99: number;
  readonly label: string;
  /** What the goals allow; on our own bar only. */
  readonly limit: number | null;
}

/**
 * Draws results.
 *
 * @param results What was found; what has neither a peer nor a limit is left out: there is nothing to
 *   see in one bar.
 * @param host What it was measured on.
 * @returns An SVG document.
 */
export async function resultChart(results: readonly Result[], host: Host): Promise<string> {
  const view = new View(parse(compile(chartSpec(results, host)).spec), { renderer: "none" });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

/**
 * Whether a result is in the chart.
 *
 * @param result What was found.
 */
export function isDrawn({ peer, limit }: Result): boolean {
  return peer !== null || limit !== null;
}

/** The bars of a result: ours first. What was only extrapolated has none. */
function bars(result: Result): Bar[] {
  const peers = Object.entries(result.peers).filter(([who]) => !who.endsWith(EXTRAPOLATED));
  const contenders = [[OURS, result.ours] as const, ...peers];
  return contenders.map(([who, { p50, p99 }]) => ({
    who,
    p50,
    p99,
    label: numberText(p50),
    limit: who === OURS ? result.limit : null,
  }));
}

/** What a result is about. */
function chartTitle({ name, unit }: Result): string {
  return `${name} (${unit}${MORE_IS_BETTER.includes(unit) ? ", more is better" : ""})`;
}

/** The chart in Vega-Lite's language: one small chart for each result, one below the other. */
function chartSpec(results: readonly Result[], host: Host): TopLevelSpec {
  const { cpu, cores, kernel, versions } = host;
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    title: {
      text: "Quasaur and its peers: median, the 99th percentile as a line, the goal in red",
      subtitle: `${cpu}, ${cores} cores, Linux ${kernel}; ` +
        Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", "),
      anchor: "start",
      offset: 16,
    },
    background: "white",
    padding: 16,
    spacing: 18,
    config: { view: { stroke: null }, axis: { grid: false }, font: "sans-serif" },
    vconcat: results.filter(isDrawn).map((result) => ({
      title: { text: chartTitle(result), anchor: "start", frame: "group", fontSize: 12 },
      width: 560,
      height: { step: 20 },
      data: { values: bars(result) },
      encoding: { y: { field: "who", type: "nominal", sort: null, title: null, axis: LABELS } },
      layer: [
        {
          mark: "bar",
          encoding: {
            x: { field: "p50", type: "quantitative", title: null, axis: { tickCount: 6 } },
            color: {
              condition: { test: `datum.who === '${OURS}'`, value: COLORS.ours },
              value: COLORS.peers,
            },
          },
        },
        {
          mark: { type: "rule", color: "#495057" },
          encoding: { x: { field: "p50", type: "quantitative" }, x2: { field: "p99" } },
        },
        {
          mark: { type: "tick", color: COLORS.limit, thickness: 2 },
          encoding: { x: { field: "limit", type: "quantitative" } },
        },
        {
          mark: { type: "text", align: "left", dx: 5, dy: -5, fontSize: 10 },
          encoding: {
            x: { field: "p50", type: "quantitative" },
            text: { field: "label" },
          },
        },
      ],
    })),
  };
}
