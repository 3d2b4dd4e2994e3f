/**
 * An event as a line.
 *
 * @module
 */

import { fitLine, left, type Line, segment, type Style } from "./line.ts";
import type { EventRow } from "./model.ts";
import { clockInWords } from "./words.ts";

/** How long ids are here. */
const SHORT_ID = 12;

/**
 * Makes a line of an event.
 *
 * @param event The event.
 * @param width How wide the line may be, in cells.
 */
export function eventLine(event: EventRow, width: number): Line {
  const { atMs, kind, type, sandboxId, containerId, detail } = event;
  const ids = [sandboxId, containerId === sandboxId ? "" : containerId]
    .filter((id) => id !== "")
    .map((id) => id.slice(0, SHORT_ID));
  return fitLine([
    segment(`${clockInWords(atMs)} `, { dim: true }),
    segment(left(kind, 6)),
    segment(` ${left(type, 18)} `, styleOf(type)),
    segment(`${ids.join("/")} `),
    segment(detail, { dim: true }),
  ], width);
}

function styleOf(type: string): Style {
  if (/failed|oom/.test(type)) return { colour: "red" };
  if (/started|resumed/.test(type)) return { colour: "green" };
  if (/paused/.test(type)) return { colour: "cyan" };
  return /exited|stopped/.test(type) ? { colour: "yellow" } : {};
}
