/**
 * The whole screen as lines, for a terminal or as plain text.
 *
 * @module
 */

import { header } from "./header.ts";
import { nameOf } from "./interaction.ts";
import { fitLine, type Frame, type Line, segment } from "./line.ts";
import { listFrame } from "./list_frame.ts";
import { bodyRows, divide, type Scene, SIZE_MIN } from "./scene.ts";
import { textFrame, textOf } from "./text_frame.ts";

/**
 * Makes the picture.
 *
 * @param scene What there is.
 * @returns As many lines as the screen has, none longer than it is wide.
 */
export function frame(scene: Scene): Frame {
  const { size, sandboxers, screen } = scene;
  if (size.columns < SIZE_MIN.columns || size.rows < SIZE_MIN.rows) {
    const text = `too small: ${SIZE_MIN.columns}x${SIZE_MIN.rows} are needed`;
    return [fitLine([segment(text)], size.columns)];
  }
  const layout = divide(size, sandboxers.length);
  const body = screen.view === "list"
    ? listFrame(scene, layout)
    : textFrame(textOf(scene), screen.scroll, bodyRows(scene));
  return [...header(scene, layout), ...body, saidLine(scene), keysLine(scene)]
    .map((line) => fitLine(line, size.columns));
}

/** What is said or asked. */
function saidLine({ screen }: Scene): Line {
  const { confirm, message, typing, selection: { filter, kind, namespace } } = screen;
  if (confirm !== undefined) {
    const question = `${confirm.verb} ${nameOf(confirm)}? y/n`;
    return [segment(question, { colour: "red", bold: true })];
  }
  if (typing) return [segment("filter: ", { bold: true }), segment(`${filter}_`)];
  if (message !== undefined) {
    return [segment(message.text, message.isError ? { colour: "red" } : { colour: "green" })];
  }
  if (screen.view !== "list") return [];
  const limits = [
    ...(filter === "" ? [] : [`filter: ${filter}`]),
    ...(kind === undefined ? [] : [`kind: ${kind}`]),
    ...(namespace === undefined ? [] : [`namespace: ${namespace}`]),
  ];
  return [segment(limits.join("   "), { colour: "yellow" })];
}

/** A screen this wide has two spaces between keys, in cells. */
const ROOMY = 100;

/** The keys that matter most here; those that do not fit are in the help. */
function keysLine({ screen, size: { columns } }: Scene): Line {
  const gap = columns >= ROOMY ? "  " : " ";
  const line: Line[number][] = [];
  let used = 0;
  for (const [key, text] of KEYS_OF[screen.typing ? "typing" : screen.view]) {
    const width = key.length + 1 + text.length;
    if (used + width > columns) break;
    used += width + gap.length;
    line.push(segment(key, { bold: true }), segment(` ${text}${gap}`));
  }
  return line;
}

type Keys = readonly (readonly [string, string])[];

const KEYS_OF: Readonly<Record<"list" | "pod" | "events" | "help" | "typing", Keys>> = {
  list: [
    ["q", "quit"],
    ["?", "keys"],
    ["Enter", "open"],
    ["Space", "fold"],
    ["/", "find"],
    ["s", "sort"],
    ["l", "logs"],
    ["x", "shell"],
    ["t", "stop"],
    ["K", "kill"],
    ["p", "pause"],
    ["k", "kind"],
    ["n", "namespace"],
    ["e", "events"],
  ],
  pod: [
    ["Esc", "back"],
    ["a", "about"],
    ["l", "logs"],
    ["e", "events"],
    ["x", "shell"],
    ["p", "pause"],
    ["t", "stop"],
    ["K", "kill"],
    ["q", "quit"],
    ["c", "container"],
    ["?", "keys"],
  ],
  events: [["Esc", "back"], ["Up Down", "scroll"], ["q", "quit"]],
  help: [["any key", "back"]],
  typing: [["Enter", "keep"], ["Esc", "all pods"], ["Ctrl-U", "empty"]],
};
