/**
 * Signals by name or number, as kill(1) takes them.
 *
 * @module
 */

import { constants } from "node:os";
import { UsageError } from "./usage_error.ts";

/** The first of the real-time signals as the C library numbers them; two before it are its own. */
const SIGRTMIN = 34;
/** The last of them. */
const SIGRTMAX = 64;

/** All names with their numbers, without `SIG`. */
const NUMBERS: ReadonlyMap<string, number> = new Map(
  Object.entries(constants.signals).map(([name, number]) => [name.slice("SIG".length), number]),
);

/** The names of signals, for completion. */
export const SIGNAL_NAMES: readonly string[] = [...NUMBERS.keys()];

/**
 * Reads a signal.
 *
 * @param text Such as `TERM`, `SIGTERM`, `15` or `RTMIN+3`.
 * @returns Its number.
 * @throws {UsageError} Where there is no such signal.
 */
export function parseSignal(text: string): number {
  const name = text.toUpperCase().replace(/^SIG/, "");
  const number = /^\d{1,2}$/.test(name) ? Number(name) : NUMBERS.get(name) ?? realTime(name);
  if (number !== undefined && number >= 1 && number <= SIGRTMAX) return number;
  throw new UsageError(
    `Invalid --signal ${JSON.stringify(text)}: expected a name such as TERM or SIGKILL, ` +
      `or a number from 1 to ${SIGRTMAX}`,
  );
}

/** `RTMIN`, `RTMIN+n`, `RTMAX` and `RTMAX-n`. */
function realTime(name: string): number | undefined {
  const [, end, digits = "0"] = /^(RTMIN(?=\+|$)|RTMAX(?=-|$))(?:[+-](\d{1,2}))?$/.exec(name) ?? [];
  if (end === undefined) return undefined;
  const number = end === "RTMIN" ? SIGRTMIN + Number(digits) : SIGRTMAX - Number(digits);
  return number >= SIGRTMIN && number <= SIGRTMAX ? number : undefined;
}

/**
 * The name of a signal.
 *
 * @param number Its number.
 * @returns Such as `SIGTERM`; `signal 40` for one without a name.
 */
export function signalName(number: number): string {
  for (const [name, each] of NUMBERS) if (each === number) return `SIG${name}`;
  return `signal ${number}`;
}
