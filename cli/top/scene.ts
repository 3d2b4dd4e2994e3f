/**
 * All that a picture of `quasaur top` is made of, and how the screen is divided.
 *
 * @module
 */

import type { Screen } from "./interaction.ts";
import type { EventRow, SandboxerRow } from "./model.ts";
import type { PodRow } from "./pod_row.ts";

/** A size in cells. */
export interface Size {
  /** How many cells a line has. */
  readonly columns: number;
  /** How many lines there are. */
  readonly rows: number;
}

/** A line that a container has written. */
export interface LogLine {
  /** When, in milliseconds since the epoch; undefined where it is a remark of this program. */
  readonly atMs: number | undefined;
  /** Whether it went to standard error. */
  readonly isError: boolean;
  /** What it says. */
  readonly text: string;
}

/** All that a picture is made of. */
export interface Scene {
  /** How large it is. */
  readonly size: Size;
  /** The time, in milliseconds since the epoch. */
  readonly nowMs: number;
  /** How often usage is asked for, in milliseconds. */
  readonly intervalMs: number;
  /** The sandboxers. */
  readonly sandboxers: readonly SandboxerRow[];
  /** Where sandboxers are looked for, for people. */
  readonly places: readonly string[];
  /** All pods. */
  readonly pods: readonly PodRow[];
  /** What happened, the oldest first. */
  readonly events: readonly EventRow[];
  /** What the container that is shown has written. */
  readonly logs: readonly LogLine[];
  /** What is on the screen. */
  readonly screen: Screen;
}

/** The smallest screen that something can be shown on. */
export const SIZE_MIN: Size = { columns: 40, rows: 10 };

/** A screen at least this high also shows the last events beneath the list, in lines. */
const EVENTS_FROM_ROWS = 32;
/** How many events it shows. */
const EVENTS_ROWS = 6;
/** The title, the head of the sandboxers, and an empty line after them. */
const HEADER_ROWS = 3;
/** What is said or asked, and the keys. */
const FOOTER_ROWS = 2;

/** How the screen is divided. */
export interface Layout {
  /** Lines for sandboxers. */
  readonly sandboxerRows: number;
  /** Lines of the list, or of a text, below their heads. */
  readonly pageRows: number;
  /** Lines for the last events, without their head; 0 for none. */
  readonly eventRows: number;
}

/**
 * Divides the screen.
 *
 * @param size How large it is.
 * @param sandboxers How many sandboxers there are.
 */
export function divide({ rows }: Size, sandboxers: number): Layout {
  const sandboxerRows = Math.min(Math.max(1, sandboxers), Math.max(1, Math.floor(rows / 4)));
  const eventRows = rows >= EVENTS_FROM_ROWS ? EVENTS_ROWS : 0;
  // The head of the list is one line; events come with an empty line and a head.
  const taken = HEADER_ROWS + sandboxerRows + 1 + FOOTER_ROWS +
    (eventRows === 0 ? 0 : eventRows + 2);
  return { sandboxerRows, eventRows, pageRows: Math.max(1, rows - taken) };
}

/**
 * How many rows of the list, or lines of a text, are on the screen below their heads.
 *
 * @param scene What there is.
 */
export function bodyRows({ size, sandboxers, screen }: Scene): number {
  const { pageRows, eventRows } = divide(size, sandboxers.length);
  // Texts have the place of the list and of the events beneath it.
  return screen.view === "list" || eventRows === 0 ? pageRows : pageRows + eventRows + 2;
}
