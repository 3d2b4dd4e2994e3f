/**
 * The Grafana dashboard in deploy/ as data: its panels with what their queries gave.
 *
 * @module
 */

import type { Prometheus, Series } from "./prometheus.ts";

/** A panel with what it shows. */
export interface FilledPanel {
  /** What it is: a `row` is the head of those below it. */
  readonly type: "row" | "stat" | "timeseries";
  /** Its title. */
  readonly title: string;
  /** Where it is, in cells of a grid with 24 columns. */
  readonly place: {
    readonly x: number;
    readonly y: number;
    readonly w: number;
    readonly h: number;
  };
  /** The unit of its values, as Grafana names it. */
  readonly unit: string;
  /** Its lines, each with a name. */
  readonly lines: readonly { readonly name: string; readonly points: Series["points"] }[];
}

/** A panel as Grafana's JSON has it. */
interface Panel {
  readonly type: string;
  readonly title: string;
  readonly gridPos: FilledPanel["place"];
  readonly fieldConfig?: { readonly defaults?: { readonly unit?: string } };
  readonly targets?: readonly { readonly expr: string; readonly legendFormat?: string }[];
}

/** What a picture shows. */
export interface Range {
  /** Its first moment, in seconds since the epoch. */
  readonly from: number;
  /** Its last moment. */
  readonly to: number;
  /** The time between two points, in seconds. */
  readonly step: number;
  /** What rates are taken over, as Prometheus writes it. */
  readonly rateInterval: string;
}

/**
 * Asks what a dashboard's panels show.
 *
 * @param path The dashboard's JSON file.
 * @param prometheus Answers its queries.
 * @param range When.
 */
export async function fillDashboard(
  path: string,
  prometheus: Pick<Prometheus, "range">,
  range: Range,
): Promise<FilledPanel[]> {
  const { panels }: { readonly panels: readonly Panel[] } = JSON.parse(
    await Deno.readTextFile(path),
  );
  return await Promise.all(panels.map(async (panel): Promise<FilledPanel> => {
    const { type, title, gridPos: place, fieldConfig, targets = [] } = panel;
    if (type !== "row" && type !== "stat" && type !== "timeseries") {
      throw new Error(`Cannot draw the panel "${title}": it is a "${type}"`);
    }
    const lines = await Promise.all(targets.map(async ({ expr, legendFormat = "" }) => {
      const series = await prometheus.range(withVariables(expr, range), range);
      return series.map(({ labels, points }) => ({ name: named(legendFormat, labels), points }));
    }));
    return {
      type,
      title,
      place,
      unit: fieldConfig?.defaults?.unit ?? "short",
      lines: lines.flat(),
    };
  }));
}

/** A query as Grafana sends it: everything is chosen. */
function withVariables(query: string, { rateInterval }: Range): string {
  return query.replaceAll("$__rate_interval", rateInterval).replaceAll(/\$(instance|kind)/g, ".*");
}

/** The name of a line: the labels that its legend asks for. */
function named(legend: string, labels: Readonly<Record<string, string>>): string {
  return legend.replaceAll(/\{\{\s*(\w+)\s*\}\}/g, (_, label: string) => labels[label] ?? "");
}
