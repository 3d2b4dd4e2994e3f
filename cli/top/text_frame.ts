/**
 * Texts that are scrolled: one pod with its logs and events, all events, and the keys.
 *
 * @module
 */

import { timestampDate } from "@bufbuild/protobuf/wkt";
import { eventLine } from "./event_line.ts";
import { type Frame, left, type Line, segment } from "./line.ts";
import { MOOD_STYLES } from "./list_frame.ts";
import { TABS } from "./interaction.ts";
import type { ContainerRow, PodRow } from "./pod_row.ts";
import type { LogLine, Scene } from "./scene.ts";
import { ageInWords, bytesInWords, clockInWords, countInWords, percentInWords } from "./words.ts";

/** A text with its head. */
export interface Text {
  /** What stands above it. */
  readonly head: Line;
  /** Its lines. */
  readonly lines: Frame;
  /** Whether its end is shown first. */
  readonly fromEnd: boolean;
}

/** What each key does. */
const KEYS: readonly (readonly [string, string])[] = [
  ["Up Down PgUp PgDn Home End", "move, or scroll"],
  ["Enter", "one pod: what is known, its logs, its events"],
  ["Space Left Right", "show or hide the containers of a pod"],
  ["s  r", "sort by cpu, memory, age, name; turn it round"],
  ["/", "only pods with a text in a name, id, image, label"],
  ["k  n", "only the next kind, the next namespace; then all"],
  ["l  e  a", "logs, events, and what is known about the pod"],
  ["c", "in a pod: only its next container"],
  ["E", "what happened everywhere"],
  ["x", "a shell in the container; its end leads back"],
  ["p", "pause, or resume"],
  ["t", "stop the pod, once confirmed"],
  ["K", "kill what runs in the container or pod, once confirmed"],
  ["Ctrl-L", "draw the screen anew"],
  ["Esc", "back; in the list: show all pods"],
  ["q  Ctrl-C", "leave"],
];

/**
 * The text of a view.
 *
 * @param scene What there is; its view is not the list.
 */
export function textOf(scene: Scene): Text {
  const { screen, events, size: { columns } } = scene;
  if (screen.view === "help") {
    const lines = KEYS.map((
      [keys, text],
    ) => [segment(left(keys, 27), { bold: true }), segment(text)]);
    return { head: [segment("KEYS", { bold: true })], lines, fromEnd: false };
  }
  if (screen.view === "events") {
    const lines = events.map((event) => eventLine(event, columns));
    return { head: [segment("EVENTS", { bold: true })], lines: orNone(lines), fromEnd: true };
  }
  const pod = scene.pods.find(({ key }) => key === screen.pod);
  if (pod === undefined) {
    const head = [segment("this pod is gone (Esc goes back)", { colour: "red" } as const)];
    return { head, lines: [], fromEnd: false };
  }
  const container = pod.containers.find(({ key }) => key === screen.container);
  return { head: podHead(pod, container, scene), ...podText(pod, container, scene) };
}

/** How far a text can be scrolled, in lines. */
export function scrollMax({ lines }: Text, rows: number): number {
  return Math.max(0, lines.length - rows);
}

/** The lines of a text that are on the screen. */
export function textFrame(text: Text, scroll: number, rows: number): Frame {
  const first = text.fromEnd ? Math.max(0, scrollMax(text, rows) - scroll) : scroll;
  const shown = text.lines.slice(first, first + rows);
  return [text.head, ...shown, ...Array.from({ length: rows - shown.length }, (): Line => [])];
}

function orNone(lines: Frame): Frame {
  return lines.length > 0 ? lines : [[segment("nothing yet", { dim: true })]];
}

function podHead(pod: PodRow, container: ContainerRow | undefined, { screen }: Scene): Line {
  const name = container === undefined ? pod.name : `${pod.name} / ${container.name}`;
  return [
    segment(`${name} `, { bold: true }),
    ...TABS.flatMap((tab) => [
      segment(" "),
      segment(` ${tab} `, tab === screen.tab ? { inverse: true } : {}),
    ]),
  ];
}

function podText(
  pod: PodRow,
  container: ContainerRow | undefined,
  { screen, events, logs, nowMs, size: { columns } }: Scene,
): Omit<Text, "head"> {
  if (screen.tab === "logs") {
    return { lines: orNone(logs.map(logLine)), fromEnd: true };
  }
  if (screen.tab === "events") {
    const lines = events
      .filter(({ sandboxId }) => sandboxId === pod.id)
      .filter(({ containerId }) => container === undefined || containerId === container.id)
      .map((event) => eventLine(event, columns));
    return { lines: orNone(lines), fromEnd: true };
  }
  const containers = container === undefined ? pod.containers : [container];
  const lines = [...aboutPod(pod, nowMs), ...containers.flatMap(aboutContainer)];
  return { lines, fromEnd: false };
}

function logLine({ atMs, isError, text }: LogLine): Line {
  if (atMs === undefined) return [segment(text, { dim: true })];
  return [
    segment(`${clockInWords(atMs)} `, { dim: true }),
    segment(text, isError ? { colour: "yellow" } : {}),
  ];
}

/** A line that says one thing. */
function fact(name: string, value: string): Line {
  return [segment(left(name, 13), { dim: true }), segment(value)];
}

/** Lines that say several things. */
function facts(name: string, values: Readonly<Record<string, string>>): Frame {
  return Object.entries(values).sort(([a], [b]) => a < b ? -1 : 1)
    .map(([key, value], index) => fact(index === 0 ? name : "", `${key}=${value}`));
}

function aboutPod(pod: PodRow, nowMs: number): Frame {
  const { sandbox, usage, state, createdAtMs } = pod;
  const { exit, createdAt } = sandbox;
  const made = createdAt === undefined ? "" : timestampDate(createdAt).toISOString();
  return [
    fact("id", pod.id),
    fact("kind", `${pod.kind}${sandbox.runtime === "" ? "" : ` (${sandbox.runtime})`}`),
    fact("namespace", pod.namespace),
    [segment(left("state", 13), { dim: true }), segment(state.word, MOOD_STYLES[state.mood])],
    ...(exit === undefined ? [] : [fact("ended", `${exit.reason} ${exit.status} ${exit.message}`)]),
    fact("made", `${made}, ${ageInWords(nowMs - createdAtMs)} ago`),
    fact("made by", pod.managed ? "quasaur" : "containerd"),
    ...(sandbox.pid === 0 ? [] : [fact("process", `${sandbox.pid}`)]),
    ...(sandbox.network === "" ? [] : [fact("network", sandbox.network)]),
    ...(usage === undefined ? [] : [fact("uses", usageInWords(usage))]),
    ...facts("labels", sandbox.labels),
    ...facts("annotations", sandbox.annotations),
  ];
}

function usageInWords(usage: NonNullable<PodRow["usage"]>): string {
  const { cpus, memoryBytes, memoryLimitBytes, pids } = usage;
  const limit = memoryLimitBytes === undefined ? "" : ` of ${bytesInWords(memoryLimitBytes)}`;
  return `${percentInWords(cpus)}% CPU, ${bytesInWords(memoryBytes)}${limit} memory, ${
    countInWords(pids, "pid")
  }`;
}

function aboutContainer(container: ContainerRow): Frame {
  const { id, name, image, state, pid, args, execs, usage } = container;
  return [
    [],
    [
      segment(left("container", 13), { dim: true }),
      segment(name, { bold: true }),
      segment(`  ${state.word}`, MOOD_STYLES[state.mood]),
    ],
    fact("  id", id),
    ...(image === "" ? [] : [fact("  image", image)]),
    ...(args.length === 0 ? [] : [fact("  runs", args.join(" "))]),
    ...(pid === 0 ? [] : [fact("  process", `${pid}`)]),
    ...(execs === 0 ? [] : [fact("  execs", `${execs}`)]),
    ...(usage === undefined ? [] : [fact("  uses", usageInWords(usage))]),
  ];
}
