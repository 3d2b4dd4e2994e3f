/**
 * What keys do: from what is on the screen and a key to what is on the screen then, and to what has to
 * be done. Nothing is done or drawn here.
 *
 * @module
 */

import type { ContainerRow, PodRow } from "./pod_row.ts";
import { type ListRow, listRows } from "./list_rows.ts";
import { ALL, type Selection, type Sort, SORTS } from "./selection.ts";

/** What is shown of one pod. */
export const TABS = ["about", "logs", "events"] as const;

/** What is shown of one pod. */
export type Tab = typeof TABS[number];

/** Something to be done to a pod or one of its containers. */
export interface Action {
  /** What. */
  readonly verb: "shell" | "stop" | "kill" | "pause" | "resume";
  /** The pod. */
  readonly pod: PodRow;
  /** The container, where it is about one. */
  readonly container: ContainerRow | undefined;
}

/** What a key asks for beyond the screen. */
export type Effect =
  | { readonly do: "quit" }
  | { readonly do: "redraw" }
  | { readonly do: "act"; readonly action: Action };

/** What is on the screen, beside the rows themselves. */
export interface Screen {
  /** The list of pods, one pod, all events, or the keys. */
  readonly view: "list" | "pod" | "events" | "help";
  /** Which pods are listed, and how. */
  readonly selection: Selection;
  /** The row that is marked; the first where there is none yet. */
  readonly marked: string | undefined;
  /** Its place in the list when it was last there. */
  readonly markedIndex: number;
  /** The row at the top of the list. */
  readonly firstRow: number;
  /** The pods whose containers are listed. */
  readonly opened: ReadonlySet<string>;
  /** Whether the filter is being typed. */
  readonly typing: boolean;
  /** The pod that is shown alone. */
  readonly pod: string | undefined;
  /** Its container that is shown; the first where missing. */
  readonly container: string | undefined;
  /** What is shown of it. */
  readonly tab: Tab;
  /** How many lines are scrolled over: from the top, or from the end of logs and events. */
  readonly scroll: number;
  /** What is done once the answer is yes. */
  readonly confirm: Action | undefined;
  /** The last thing that was said. */
  readonly message: { readonly text: string; readonly isError: boolean } | undefined;
}

/** What is on the screen at first. */
export function firstScreen(sort: Sort): Screen {
  return {
    view: "list",
    selection: { ...ALL, sort },
    marked: undefined,
    markedIndex: 0,
    firstRow: 0,
    opened: new Set(),
    typing: false,
    pod: undefined,
    container: undefined,
    tab: "about",
    scroll: 0,
    confirm: undefined,
    message: undefined,
  };
}

/** What there is to choose from when a key is pressed. */
export interface Choices {
  /** All pods. */
  readonly pods: readonly PodRow[];
  /** How many rows of a list, or lines of a text, are on the screen. */
  readonly pageRows: number;
}

/** What a key leads to. */
export interface Reaction {
  /** What is on the screen then. */
  readonly screen: Screen;
  /** What has to be done. */
  readonly effect?: Effect;
}

/**
 * Presses a key.
 *
 * @param screen What is on the screen.
 * @param key The key: a character, or a name such as `up`, `enter` or `ctrl-c`.
 * @param choices What there is to choose from.
 */
export function press(screen: Screen, key: string, choices: Choices): Reaction {
  if (key === "ctrl-c") return { screen, effect: { do: "quit" } };
  if (key === "ctrl-l") return { screen, effect: { do: "redraw" } };
  if (screen.confirm !== undefined) {
    return answer({ ...screen, confirm: undefined }, key, screen.confirm);
  }
  if (screen.typing) return { screen: type(screen, key) };
  const calm = { ...screen, message: undefined };
  if (key === "q") return { screen, effect: { do: "quit" } };
  if (screen.view === "help") return { screen: { ...calm, view: "list" } };
  if (key === "?") return { screen: { ...calm, view: "help" } };
  const acted = act(calm, key, choices);
  if (acted !== undefined) return acted;
  if (screen.view === "list") return { screen: inList(calm, key, choices) };
  return { screen: screen.view === "pod" ? inPod(calm, key, choices) : inText(calm, key, choices) };
}

/** The answer to a question. */
function answer(screen: Screen, key: string, action: Action): Reaction {
  if (key === "y" || key === "Y") return { screen, effect: { do: "act", action } };
  const message = { text: `did not ${action.verb} ${nameOf(action)}`, isError: false };
  return { screen: { ...screen, message } };
}

/** How long a filter may be. */
const FILTER_MAX = 60;

/** Typing the filter. */
function type(screen: Screen, key: string): Screen {
  const { selection } = screen;
  const filtered = (filter: string): Screen => ({ ...screen, selection: { ...selection, filter } });
  if (key === "enter") return { ...screen, typing: false };
  if (key === "escape") return { ...filtered(""), typing: false };
  if (key === "ctrl-u") return filtered("");
  if (key === "backspace") return filtered([...selection.filter].slice(0, -1).join(""));
  if (key === "space") return filtered(`${selection.filter} `);
  const isCharacter = [...key].length === 1 && selection.filter.length < FILTER_MAX;
  return isCharacter ? filtered(selection.filter + key) : screen;
}

/** What is said of an action's target. */
export function nameOf({ pod, container }: Action): string {
  return container === undefined
    ? `pod "${pod.name}"`
    : `container "${container.name}" of pod "${pod.name}"`;
}

/** The keys that do something to the marked pod or container. */
function act(screen: Screen, key: string, choices: Choices): Reaction | undefined {
  if (!["x", "t", "K", "p"].includes(key) || screen.view === "events") return undefined;
  const { pod, container } = target(screen, choices);
  if (pod === undefined) return say(screen, "no pod is marked");
  if (key === "x") {
    const running = container ?? pod.containers.find(({ isRunning }) => isRunning);
    if (running === undefined) return say(screen, `pod "${pod.name}" has no running container`);
    const action: Action = { verb: "shell", pod, container: running };
    return { screen, effect: { do: "act", action } };
  }
  if (key === "p") {
    const { word } = (container ?? pod).state;
    const verb = word === "paused" ? "resume" : "pause";
    return { screen, effect: { do: "act", action: { verb, pod, container } } };
  }
  const verb = key === "t" ? "stop" : "kill";
  // Only pods are stopped.
  const confirm: Action = { verb, pod, container: verb === "stop" ? undefined : container };
  return { screen: { ...screen, confirm } };
}

function say(screen: Screen, text: string): Reaction {
  return { screen: { ...screen, message: { text, isError: true } } };
}

/** The pod that keys are about, and the container where they are about one alone. */
export function target(
  screen: Screen,
  { pods }: Pick<Choices, "pods">,
): { readonly pod: PodRow | undefined; readonly container: ContainerRow | undefined } {
  if (screen.view === "pod") {
    const pod = pods.find(({ key }) => key === screen.pod);
    const container = pod?.containers.find(({ key }) => key === screen.container);
    return { pod, container };
  }
  const row = listRows(pods, screen).find(({ key }) => key === screen.marked);
  return { pod: row?.pod, container: row?.container };
}

/** Keys in the list of pods. */
function inList(screen: Screen, key: string, choices: Choices): Screen {
  const { selection } = screen;
  const rows = listRows(choices.pods, screen);
  const row = rows.find(({ key }) => key === screen.marked);
  switch (key) {
    case "enter":
      return row === undefined ? screen : showPod(screen, row, "about");
    case "l":
      return row === undefined ? screen : showPod(screen, row, "logs");
    case "e":
      return row === undefined ? screen : showPod(screen, row, "events");
    case "E":
      return { ...screen, view: "events", scroll: 0 };
    case "space":
    case "right":
    case "left":
      return row === undefined ? screen : open(screen, row, key);
    case "/":
      return { ...screen, typing: true };
    case "escape":
      return { ...screen, selection: { ...ALL, sort: selection.sort } };
    case "s":
      return { ...screen, selection: { ...selection, sort: next(SORTS, selection.sort) } };
    case "r":
      return { ...screen, selection: { ...selection, reversed: !selection.reversed } };
    case "k": {
      const kind = nextOrAll(choices.pods.map(({ kind }) => kind), selection.kind);
      return { ...screen, selection: { ...selection, kind } };
    }
    case "n": {
      const namespaces = choices.pods.map(({ namespace }) => namespace);
      const namespace = nextOrAll(namespaces, selection.namespace);
      return { ...screen, selection: { ...selection, namespace } };
    }
    default:
      return mark(screen, rows, move(screen.markedIndex, key, rows.length, choices.pageRows));
  }
}

/** Keys in the view of one pod. */
function inPod(screen: Screen, key: string, choices: Choices): Screen {
  const tabs: Readonly<Record<string, Tab>> = { a: "about", l: "logs", e: "events" };
  const tab = tabs[key];
  if (tab !== undefined) return { ...screen, tab, scroll: 0 };
  if (key === "tab" || key === "right") {
    return { ...screen, tab: next(TABS, screen.tab), scroll: 0 };
  }
  if (key === "left") return { ...screen, tab: next(TABS.toReversed(), screen.tab), scroll: 0 };
  if (key === "c") {
    const keys = target(screen, choices).pod?.containers.map(({ key }) => key) ?? [];
    return { ...screen, container: nextOrAll(keys, screen.container, false), scroll: 0 };
  }
  return inText(screen, key, choices);
}

/** How far a text can be scrolled, in lines; drawing stops at what there is. */
const SCROLL_MAX = 100_000;

/** Keys that scroll a text or leave it. Logs and events are at their end at first. */
function inText(screen: Screen, key: string, { pageRows }: Choices): Screen {
  if (["escape", "backspace", "E"].includes(key)) {
    return { ...screen, view: "list", pod: undefined, container: undefined, scroll: 0 };
  }
  const isFromEnd = screen.view === "events" || screen.tab !== "about";
  const moved = isFromEnd
    ? SCROLL_MAX - move(SCROLL_MAX - screen.scroll, key, SCROLL_MAX + 1, pageRows)
    : move(screen.scroll, key, SCROLL_MAX, pageRows);
  return { ...screen, scroll: moved };
}

/** Goes to one pod. */
function showPod(screen: Screen, { pod, container }: ListRow, tab: Tab): Screen {
  return { ...screen, view: "pod", pod: pod.key, container: container?.key, tab, scroll: 0 };
}

/** Shows or hides the containers of a pod. */
function open(screen: Screen, { pod }: ListRow, key: string): Screen {
  const opened = new Set(screen.opened);
  const isOpen = opened.has(pod.key);
  if (key === "left" || (key === "space" && isOpen)) opened.delete(pod.key);
  else opened.add(pod.key);
  // What is marked must not be hidden.
  const marked = opened.has(pod.key) ? screen.marked : pod.key;
  return { ...screen, opened, marked };
}

/** Where a key leads to in a list. */
function move(index: number, key: string, count: number, pageRows: number): number {
  const steps: Readonly<Record<string, number>> = {
    "up": -1,
    "down": 1,
    "page-up": -pageRows,
    "page-down": pageRows,
    "home": -Infinity,
    "end": Infinity,
  };
  return Math.max(0, Math.min(count - 1, index + (steps[key] ?? 0)));
}

function mark(screen: Screen, rows: readonly ListRow[], index: number): Screen {
  return { ...screen, marked: rows[index]?.key, markedIndex: index };
}

/**
 * Brings the marked row in line with the rows that there are: it keeps being marked wherever it goes;
 * where it is gone, the one that has taken its place is.
 *
 * @param screen What is on the screen.
 * @param choices What there is now.
 */
export function settle(screen: Screen, choices: Choices): Screen {
  const rows = listRows(choices.pods, screen);
  const found = rows.findIndex(({ key }) => key === screen.marked);
  const index = found >= 0 ? found : Math.min(screen.markedIndex, rows.length - 1);
  const last = Math.max(0, rows.length - choices.pageRows);
  const visible = Math.min(Math.max(screen.firstRow, index - choices.pageRows + 1), index, last);
  return {
    ...screen,
    marked: rows[index]?.key,
    markedIndex: Math.max(0, index),
    firstRow: Math.max(0, visible),
  };
}

/** The one after, round and round. */
function next<T>(all: readonly T[], current: T): T {
  return all[(all.indexOf(current) + 1) % all.length] ?? current;
}

/** The one after of those that there are, in order; undefined, for all of them, after the last. */
function nextOrAll(
  there: readonly string[],
  current: string | undefined,
  sorted = true,
): string | undefined {
  const all = [...new Set(there)];
  if (sorted) all.sort();
  return all[current === undefined ? 0 : all.indexOf(current) + 1];
}
