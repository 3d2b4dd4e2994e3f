/**
 * The agent's own notes: to the guest's console, and to the host as events where it listens.
 *
 * @module
 */

import type { AgentEvent } from "../protocol/messages.ts";
import * as sys from "./sys.js";

/** The longest note, in characters. */
const NOTE_CHARACTERS_MAX = 2000;
/** Notes that wait for a host. */
const WAITING_MAX = 32;

type LogEvent = AgentEvent & { readonly kind: "log" };

let send: ((event: AgentEvent) => boolean) | undefined;
let waiting: LogEvent[] = [];
let telling = false;

/**
 * Says where notes go beside the console.
 *
 * @param tell Sends an event; false where it was not taken.
 */
export function logTo(tell: (event: AgentEvent) => boolean): void {
  send = tell;
}

/** Tells the host what it has missed. */
export function flushLog(): void {
  const missed = waiting;
  waiting = [];
  for (const event of missed) tellHost(event);
}

/**
 * Takes a note.
 *
 * @param level How bad it is.
 * @param message What happened.
 */
export function log(level: "warn" | "error", message: string): void {
  const note = message.slice(0, NOTE_CHARACTERS_MAX);
  sys.printError(`agent: ${note.replaceAll("\0", "")}\n`);
  tellHost({ kind: "log", level, message: note });
}

function tellHost(event: LogEvent): void {
  // Telling may fail in a way that is noted: that note must not be told, or it never ends.
  if (telling) return;
  telling = true;
  try {
    if (send?.(event) !== true && waiting.length < WAITING_MAX) waiting.push(event);
  } finally {
    telling = false;
  }
}
