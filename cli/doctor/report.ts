/**
 * The findings of `quasaur doctor` for people: each area with a title, what mends what is missing,
 * and what they come to. On a terminal no line is longer than that is wide.
 *
 * @module
 */

import type { Colour, Colours } from "../show/colours.ts";
import { wrapped, wrappedCommand } from "../show/wrapped.ts";
import type { Finding, Verdict } from "./finding.ts";

const STATE_COLOURS: Readonly<Record<Finding["state"], Colour>> = {
  ok: "green",
  note: "yellow",
  missing: "red",
};

/** Where the titles begin: behind the state. */
const TITLE_COLUMN = "  missing  ".length;

/** The least room for a text beside its title; where there is less, it goes below that. */
const ROOM_COLUMNS_MIN = 30;

/** How far lines are indented that go on. */
const BELOW = " ".repeat(4);

const ARROW = "-> ";

/** What there is to tell. */
export interface Report {
  /** What was found. */
  readonly findings: readonly Finding[];
  /** What they come to. */
  readonly verdicts: readonly Verdict[];
}

/**
 * Puts a report together.
 *
 * @param report What there is to tell.
 * @param colours How it is painted.
 * @param columns The terminal's width; undefined where it goes elsewhere: then each text is one line.
 */
export function reportText(
  { findings, verdicts }: Report,
  colours: Colours,
  columns: number | undefined,
): string {
  const width = Math.max(...findings.map(({ title }) => title.length));
  const beside = TITLE_COLUMN + width + 2;
  const isNarrow = columns !== undefined && columns - beside < ROOM_COLUMNS_MIN;
  const indent = isNarrow ? BELOW : " ".repeat(beside);
  const room = columns === undefined ? Infinity : Math.max(1, columns - indent.length);
  const lines: string[] = [];
  for (const [area, some] of Map.groupBy(findings, ({ area }) => area)) {
    lines.push(colours.paint("bold", area));
    for (const { state, title, found, mend } of some) {
      const word = colours.paint(STATE_COLOURS[state], state.padEnd("missing".length));
      const head = `  ${word}  ${isNarrow ? title : title.padEnd(width)}`;
      const [first = "", ...rest] = wrapped(found, room);
      if (isNarrow) lines.push(head, `${indent}${first}`);
      else lines.push(`${head}  ${first}`);
      lines.push(...rest.map((line) => `${indent}${line}`));
      if (mend === undefined) continue;
      for (const [i, line] of wrappedCommand(mend, room - ARROW.length).entries()) {
        const before = i === 0 ? ARROW : " ".repeat(ARROW.length);
        lines.push(`${indent}${before}${colours.paint("bold", line)}`);
      }
    }
  }
  lines.push("");
  for (const verdict of verdicts) lines.push(...verdictLines(verdict, colours, columns));
  return lines.map((line) => `${line}\n`).join("");
}

function verdictLines(
  { kind, works, lacks }: Verdict,
  colours: Colours,
  columns: number = Infinity,
): string[] {
  if (works) return [colours.paint("green", `${kind} can run here`)];
  const text = `${kind} cannot run here: ${lacks.join(", ")}`;
  return wrapped(text, columns - BELOW.length)
    .map((line, i) => (i === 0 ? "" : BELOW) + colours.paint("red", line));
}
