/**
 * The list of pods, with the last events beneath where there is room.
 *
 * @module
 */

import { eventLine } from "./event_line.ts";
import { fillLine, type Frame, type Line, segment, type Style } from "./line.ts";
import { type ListRow, listRows } from "./list_rows.ts";
import type { StateInWords } from "./pod_row.ts";
import type { Layout, Scene } from "./scene.ts";
import { type Column, Table } from "./table.ts";
import { ageInWords, bytesInWords, percentInWords, UNKNOWN } from "./words.ts";

/** How each state looks. */
export const MOOD_STYLES: Readonly<Record<StateInWords["mood"], Style>> = {
  good: { colour: "green" },
  moving: { colour: "yellow" },
  held: { colour: "cyan" },
  over: { dim: true },
  bad: { colour: "red" },
};

/** The part of the screen between the header and the footer. */
export function listFrame(scene: Scene, layout: Layout): Frame {
  const { screen, pods, size: { columns } } = scene;
  const rows = listRows(pods, screen);
  const table = new Table(podColumns(scene), columns);
  const shown = rows.slice(screen.firstRow, screen.firstRow + layout.pageRows);
  const lines = shown.map((row) => {
    const line = table.row(row);
    return row.key === screen.marked ? fillLine(line, columns, { inverse: true }) : line;
  });
  if (rows.length === 0) lines.push([segment(emptyText(scene), { dim: true })]);
  const space = Array.from({ length: layout.pageRows - lines.length }, (): Line => []);
  return [table.head(), ...lines, ...space, ...lastEvents(scene, layout)];
}

function emptyText({ pods, sandboxers }: Scene): string {
  if (pods.length > 0) return "no pod fits the filter (Esc shows all)";
  const isUp = sandboxers.some(({ state }) => state === "up");
  return isUp ? "no pods yet" : "";
}

function podColumns({ nowMs, screen: { opened, selection } }: Scene): Column<ListRow>[] {
  const arrow = (sort: string): string =>
    selection.sort === sort ? (selection.reversed ? "^" : "v") : "";
  return [
    { title: `  POD${arrow("name")}`, width: 0, cell: (row) => nameOf(row, opened) },
    { title: "KIND", width: 6, cell: ({ pod, container }) => container ? "" : pod.kind },
    {
      title: "NAMESPACE",
      width: 10,
      fromWidth: 90,
      cell: ({ pod, container }) => container ? "" : pod.namespace,
    },
    {
      title: "STATE",
      width: 10,
      cell: ({ pod, container }) => (container ?? pod).state.word,
      style: ({ pod, container }) => MOOD_STYLES[(container ?? pod).state.mood],
    },
    {
      title: `CPU%${arrow("cpu")}`,
      width: 6,
      atRight: true,
      cell: ({ pod, container }) => percentInWords((container ?? pod).usage?.cpus),
    },
    {
      title: `MEMORY${arrow("memory")}`,
      width: 7,
      atRight: true,
      cell: ({ pod, container }) => bytesInWords((container ?? pod).usage?.memoryBytes),
    },
    {
      title: "LIMIT",
      width: 6,
      atRight: true,
      fromWidth: 100,
      cell: ({ pod, container }) => bytesInWords((container ?? pod).usage?.memoryLimitBytes),
    },
    {
      title: "PIDS",
      width: 5,
      atRight: true,
      fromWidth: 70,
      cell: ({ pod, container }) => `${(container ?? pod).usage?.pids ?? UNKNOWN}`,
    },
    {
      title: "CONT",
      width: 4,
      atRight: true,
      fromWidth: 60,
      cell: ({ pod, container }) => container ? "" : `${pod.containers.length}`,
    },
    {
      title: `AGE${arrow("age")}`,
      width: 4,
      atRight: true,
      cell: ({ pod, container }) => container ? "" : ageInWords(nowMs - pod.createdAtMs),
    },
  ];
}

function nameOf({ pod, container }: ListRow, opened: ReadonlySet<string>): string {
  if (container !== undefined) {
    return `    ${container.name}${container.image === "" ? "" : `  ${container.image}`}`;
  }
  if (pod.containers.length === 0) return `  ${pod.name}`;
  return `${opened.has(pod.key) ? "-" : "+"} ${pod.name}`;
}

function lastEvents({ events, size: { columns } }: Scene, { eventRows }: Layout): Frame {
  if (eventRows === 0) return [];
  const last = events.slice(-eventRows).map((event) => eventLine(event, columns));
  const space = Array.from({ length: eventRows - last.length }, (): Line => []);
  return [[], [segment("EVENTS", { bold: true })], ...last, ...space];
}
