/**
 * Draws a filled dashboard as an SVG picture: its panels where they are in Grafana, each by Vega.
 *
 * @module
 */

import { parse, View } from "vega";
import { compile, type TopLevelSpec } from "vega-lite";
import type { FilledPanel } from "./dashboard.ts";

/** The size of a cell of the grid, and what is left around panels, in the picture's units. */
const CELL = { width: 52, height: 30 };
const GAP = 4;
/** What a panel's title and legend take. */
const TITLE_HEIGHT = 26;
const LEGEND_HEIGHT = 34;
const AXIS_WIDTH = 58;
/** How many lines a legend names: the largest ones. */
const LEGEND_LINES = 6;

const COLOURS = { background: "#111217", panel: "#181b1f", text: "#ccccdc", faint: "#8e8ea0" };
const LINES = [
  ...["#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0"],
  ...["#37872d", "#fade2a", "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477"],
];
const FONT = "sans-serif";

/** How values of a unit are written, in Vega's language. */
const UNITS: Readonly<Record<string, string>> = {
  s: "format(datum.value, '.3~s') + 's'",
  bytes: "format(datum.value / 1048576, '.0f') + ' MiB'",
  percentunit: "format(datum.value, '.0%')",
  ops: "format(datum.value, '.2~f') + '/s'",
  short: "format(datum.value, '.2~f')",
};

/**
 * Draws a dashboard.
 *
 * @param panels Its panels.
 * @param title What stands above it.
 * @returns An SVG document.
 */
export async function dashboardPicture(
  panels: readonly FilledPanel[],
  title: string,
): Promise<string> {
  const rows = Math.max(...panels.map(({ place: { y, h } }) => y + h));
  const [width, height] = [24 * CELL.width + GAP, rows * CELL.height + 44];
  const drawn = await Promise.all(panels.map(panelPicture));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}" role="img" aria-label="${escaped(title)}">`,
    `<rect width="${width}" height="${height}" fill="${COLOURS.background}"/>`,
    text(12, 27, 17, COLOURS.text, title),
    `<g transform="translate(0 40)">`,
    ...drawn,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

/** A panel where it belongs. */
async function panelPicture(panel: FilledPanel): Promise<string> {
  const { type, title, place: { x, y, w, h } } = panel;
  const [left, top] = [x * CELL.width + GAP, y * CELL.height + GAP];
  const size = { width: w * CELL.width - GAP, height: h * CELL.height - GAP };
  if (type === "row") return text(left + 4, top + 19, 14, COLOURS.text, title);
  const inner = panel.lines.every(({ points }) => points.length === 0)
    ? text(size.width / 2 - 26, size.height / 2 + 8, 13, COLOURS.faint, "No data")
    : type === "stat"
    ? statPicture(panel, size)
    : await linesPicture(panel, size);
  return [
    `<g transform="translate(${left} ${top})">`,
    `<rect width="${size.width}" height="${size.height}" rx="3" fill="${COLOURS.panel}"/>`,
    text(10, 18, 12, COLOURS.text, title),
    inner,
    "</g>",
  ].join("\n");
}

interface PanelSize {
  readonly width: number;
  readonly height: number;
}

/** The last value of each line, large. */
function statPicture({ lines, unit }: FilledPanel, { width, height }: PanelSize): string {
  const last = lines.flatMap(({ name, points }) => {
    const value = points.at(-1)?.[1];
    return value === undefined ? [] : [{ name, value: inUnit(value, unit) }];
  });
  return last.map(({ name, value }, index) => {
    const x = 12 + index * (width - 12) / last.length;
    const size = last.length > 1 ? 19 : 34;
    return text(x, height / 2 + 24, size, LINES[0] ?? "", value) +
      (name === "" ? "" : text(x, height - 12, 11, COLOURS.faint, name));
  }).join("\n");
}

/** A value as a stat shows it. */
function inUnit(value: number, unit: string): string {
  if (unit === "percentunit") return `${(value * 100).toFixed(1)}%`;
  if (unit === "s") {
    return value < 1 ? `${Number((value * 1000).toPrecision(3))} ms` : `${value.toPrecision(3)} s`;
  }
  return `${Number(value.toPrecision(3))}`;
}

/** A diagram. */
async function linesPicture(panel: FilledPanel, size: PanelSize): Promise<string> {
  const view = new View(parse(compile(diagram(panel, size)).spec), { renderer: "none" });
  try {
    const svg = await view.toSVG();
    const legend = legendPicture(panel, size);
    // A picture within the picture, below the panel's title.
    return `${svg.replace("<svg ", `<svg y="${TITLE_HEIGHT}" `)}\n${legend}`;
  } finally {
    view.finalize();
  }
}

/** The lines of a panel, the largest first: the first are named. */
function byValue({ lines }: FilledPanel): FilledPanel["lines"] {
  const largest = ({ points }: FilledPanel["lines"][number]): number =>
    points.reduce((most, [, value]) => Math.max(most, value), -Infinity);
  return lines.filter(({ points }) => points.length > 0).toSorted((a, b) =>
    largest(b) - largest(a)
  );
}

function diagram(panel: FilledPanel, { width, height }: PanelSize): TopLevelSpec {
  const lines = byValue(panel);
  const values = lines.flatMap(({ points }, line) =>
    points.map(([at, value]) => ({ line, at: at * 1000, value }))
  );
  const axis = {
    title: null,
    labelColor: COLOURS.faint,
    gridColor: "#2c2f36",
    domain: false,
    ticks: false,
    labelFontSize: 10,
  };
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    width: width - AXIS_WIDTH - 20,
    height: height - TITLE_HEIGHT - LEGEND_HEIGHT - 30,
    padding: { left: 4, right: 8, top: 4, bottom: 2 },
    autosize: { type: "pad" },
    background: "transparent",
    config: { font: FONT, view: { stroke: null } },
    data: { values },
    mark: { type: "line", strokeWidth: 1.4, clip: true },
    encoding: {
      x: {
        field: "at",
        type: "temporal",
        scale: { type: "utc" },
        axis: { ...axis, format: "%H:%M:%S", tickCount: 4 },
      },
      y: {
        field: "value",
        type: "quantitative",
        scale: { zero: true, nice: true },
        axis: {
          ...axis,
          tickCount: 4,
          labelExpr: UNITS[panel.unit] ?? "datum.label",
          minExtent: AXIS_WIDTH - 8,
          maxExtent: AXIS_WIDTH - 8,
        },
      },
      color: {
        field: "line",
        type: "nominal",
        legend: null,
        scale: { domain: lines.map((_, index) => index), range: lines.map((_, i) => colour(i)) },
      },
    },
  };
}

function colour(line: number): string {
  return LINES[line % LINES.length] ?? COLOURS.text;
}

/** The names of the largest lines, and how many more there are. */
function legendPicture(panel: FilledPanel, { width, height }: PanelSize): string {
  const lines = byValue(panel);
  const shown = lines.slice(0, LEGEND_LINES);
  const more = lines.length - shown.length;
  const names = shown.map(({ name }) => name);
  if (more > 0) names.push(`and ${more} more`);
  let [x, y] = [12, height - LEGEND_HEIGHT + 12];
  return names.map((name, index) => {
    const taken = 26 + name.length * 6.2;
    if (x > 12 && x + taken > width) [x, y] = [12, y + 15];
    if (y > height) return "";
    const mark = index < shown.length
      ? `<rect x="${x}" y="${y - 5}" width="12" height="3" fill="${colour(index)}"/>`
      : "";
    const drawn = mark + text(x + 16, y, 10, COLOURS.text, name);
    x += taken;
    return drawn;
  }).join("\n");
}

function text(x: number, y: number, size: number, fill: string, words: string): string {
  return `<text x="${x}" y="${y}" font-family="${FONT}" font-size="${size}" fill="${fill}">` +
    `${escaped(words)}</text>`;
}

function escaped(words: string): string {
  return words.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}
