/**
 * The upper part of the screen: the title and the sandboxers.
 *
 * @module
 */

import { fillLine, fitLine, type Frame, left, type Line, segment } from "./line.ts";
import type { SandboxerRow } from "./model.ts";
import type { Layout, Scene } from "./scene.ts";
import type { Quantiles } from "./starts.ts";
import { type Column, Table } from "./table.ts";
import {
  ageInWords,
  bytesInWords,
  clockInWords,
  countInWords,
  latencyInWords,
  percentInWords,
  rateInWords,
  UNKNOWN,
} from "./words.ts";

/** The title, the sandboxers and an empty line. */
export function header(scene: Scene, layout: Layout): Frame {
  const { sandboxers, places, size: { columns }, nowMs } = scene;
  const table = new Table(sandboxerColumns(nowMs), columns);
  const shown = sandboxers.slice(0, layout.sandboxerRows);
  const lines = shown.map((row) => sandboxerLine(row, table, nowMs));
  const hidden = sandboxers.length - shown.length;
  if (hidden > 0) lines[lines.length - 1] = [segment(`and ${hidden + 1} more`, { dim: true })];
  if (sandboxers.length === 0) {
    const text = `no sandboxer answers: looking at ${places.join(", ")}`;
    lines.push([segment(text, { colour: "red" })]);
  }
  return [titleLine(scene), table.head(), ...lines.map((line) => fitLine(line, columns)), []];
}

function titleLine({ sandboxers, pods, nowMs, intervalMs, size: { columns } }: Scene): Line {
  const up = sandboxers.filter(({ state }) => state === "up").length;
  const containers = pods.reduce((sum, pod) => sum + pod.containers.length, 0);
  const counts = [
    up === sandboxers.length
      ? countInWords(up, "sandboxer")
      : `${up} of ${countInWords(sandboxers.length, "sandboxer")} up`,
    countInWords(pods.length, "pod"),
    countInWords(containers, "container"),
  ];
  const text = ` quasaur top   ${counts.join(", ")}`;
  const end = `every ${latencyInWords(intervalMs).replace(/\.0/, "")}  ${clockInWords(nowMs)} UTC `;
  const line = segment(left(text, Math.max(0, columns - end.length)) + end);
  return fillLine([line], columns, { inverse: true, bold: true });
}

function sandboxerColumns(nowMs: number): Column<SandboxerRow>[] {
  return [
    { title: "SANDBOXER", width: 0, cell: ({ kind }) => kind, style: () => ({ bold: true }) },
    { title: "VERSION", width: 9, fromWidth: 100, cell: ({ version }) => version },
    {
      title: "UP",
      width: 4,
      atRight: true,
      fromWidth: 96,
      cell: ({ sinceMs }) => ageInWords(nowMs - sinceMs),
    },
    { title: "PODS", width: 4, atRight: true, cell: ({ pods }) => `${pods}` },
    { title: "CONT", width: 4, atRight: true, cell: ({ containers }) => `${containers}` },
    { title: "CPU%", width: 6, atRight: true, cell: ({ cpus }) => percentInWords(cpus) },
    {
      title: "MEMORY",
      width: 7,
      atRight: true,
      cell: ({ memoryBytes }) => bytesInWords(memoryBytes),
    },
    {
      title: "STARTS/S",
      width: 8,
      atRight: true,
      cell: ({ startsPerSecond }) => rateInWords(startsPerSecond),
    },
    {
      title: "POD p50/p99",
      width: 11,
      atRight: true,
      fromWidth: 64,
      cell: ({ podStart }) => quantilesInWords(podStart),
    },
    {
      title: "RUN p50/p99",
      width: 11,
      atRight: true,
      fromWidth: 76,
      cell: ({ containerStart }) => quantilesInWords(containerStart),
    },
    { title: "RPC", width: 5, atRight: true, cell: ({ callMs }) => latencyInWords(callMs) },
  ];
}

function quantilesInWords(quantiles: Quantiles | undefined): string {
  if (quantiles === undefined) return UNKNOWN;
  return `${latencyInWords(quantiles.p50Ms)}/${latencyInWords(quantiles.p99Ms)}`;
}

function sandboxerLine(row: SandboxerRow, table: Table<SandboxerRow>, nowMs: number): Line {
  const { kind, state, sinceMs, problem } = row;
  if (state === "up") return table.row(row);
  const since = ageInWords(nowMs - sinceMs);
  const text = state === "connecting" ? "connecting" : `gone since ${since}: ${problem}`;
  const style = { colour: state === "gone" ? "red" : "yellow" } as const;
  return [segment(left(kind, 10), { bold: true }), segment(text, style)];
}
