/**
 * How logs are read by clients: from some time on, only the last lines, and on and on as they are
 * written. A long log is gone through in steps, so that others get their turn.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import { forEachLine, type LogPiece, type OutputName, outputOf } from "./log_format.ts";
import type { LogPlace } from "./log_segments.ts";
import type { LogReader, RunLog } from "./run_log.ts";

/** What of a log is wanted. */
export interface LogChoice {
  /** Only what came since then, in milliseconds since the epoch; missing for all. */
  readonly sinceMs?: number;
  /** Only so many of the last lines; missing for all. */
  readonly tail?: number;
  /** Whether to go on with what is written later, until the log ends. */
  readonly follow: boolean;
}

/**
 * Reads a log piece by piece.
 *
 * @param log The log.
 * @param choice What of it.
 * @param signal Ends it.
 * @throws {SandboxError} `DataLoss` where it was written faster than it was read.
 */
export async function* readLog(
  log: RunLog,
  { sinceMs, tail, follow }: LogChoice,
  signal: AbortSignal,
): AsyncGenerator<LogPiece> {
  const since = sinceMs === undefined ? "" : timeOf(sinceMs);
  const { end } = log;
  let skip = tail === undefined ? 0 : Math.max(0, await countLines(log, since, end) - tail);
  using reader = log.reader(log.begin, false);
  for await (const lines of readOn(log, reader, follow, signal)) {
    for (const piece of piecesOf(lines)) {
      if (piece.time < since) continue;
      if (skip === 0) yield piece;
      else if (!piece.partial) skip--;
    }
    if (!follow && !isBefore(reader.place, end)) return;
  }
}

/** Dates have four digits for years that anybody means. */
function timeOf(ms: number): string {
  const clamped = Math.min(Math.max(ms, 0), Date.UTC(9999, 0));
  return new Date(clamped).toISOString();
}

/** Counts the lines up to a place. What comes last counts as one, whether it is whole or not. */
async function countLines(log: RunLog, since: string, end: LogPlace): Promise<number> {
  using reader = log.reader(log.begin, false);
  let count = 0;
  let isOpen = false;
  while (isBefore(reader.place, end)) {
    const lines = reader.read();
    if (lines === undefined || lines.length === 0) break;
    forEachLine(lines, ({ time, partial }) => {
      if (time < since) return;
      if (!partial) count++;
      isOpen = partial;
    });
    await turn();
  }
  return isOpen ? count + 1 : count;
}

function isBefore(place: LogPlace, end: LogPlace): boolean {
  return place.segment < end.segment ||
    (place.segment === end.segment && place.offset < end.offset);
}

function piecesOf(lines: Uint8Array): LogPiece[] {
  const pieces: LogPiece[] = [];
  forEachLine(lines, (piece) => void pieces.push(piece));
  return pieces;
}

/** Whole lines as they come; ends with the log, or where it is not followed when there are no more. */
async function* readOn(
  log: RunLog,
  reader: LogReader,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  while (!signal.aborted) {
    const changed = log.changed();
    const lines = reader.read();
    if (lines === undefined) return;
    if (lines.length > 0) {
      yield lines;
      await turn();
    } else if (follow) await changedOr(changed, signal);
    else return;
  }
}

/** Output of a stream, as it was written. */
export interface Output {
  /** Which stream. */
  readonly stream: OutputName;
  /** What. */
  readonly bytes: Uint8Array;
}

/**
 * Follows the output of a container to its end; the container waits for who does so slowly.
 *
 * @param log Its log.
 * @param reader Where from; see {@link RunLog.reader}. Disposing of it is the caller's.
 * @param signal Ends it.
 * @throws {SandboxError} `DataLoss` where the client was too slow for too long.
 */
export async function* followOutput(
  log: RunLog,
  reader: LogReader,
  signal: AbortSignal,
): AsyncGenerator<Output> {
  for await (const lines of readOn(log, reader, true, signal)) {
    let same: LogPiece[] = [];
    for (const piece of piecesOf(lines)) {
      const [first] = same;
      if (first !== undefined && first.stream !== piece.stream) {
        yield { stream: first.stream, bytes: outputOf(same) };
        same = [];
      }
      same.push(piece);
    }
    const [first] = same;
    if (first !== undefined) yield { stream: first.stream, bytes: outputOf(same) };
  }
}

/** Waits for something, at most until a signal. */
export async function changedOr(changed: Promise<void>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const wake = (): void => resolve();
  signal.addEventListener("abort", wake, { once: true });
  try {
    await Promise.race([changed, promise]);
  } finally {
    signal.removeEventListener("abort", wake);
  }
}

/** Lets others have their turn. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
