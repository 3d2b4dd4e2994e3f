/**
 * The log of a sandboxer: levelled records with fields, one line each, as text for people or as
 * JSON for machines, on standard error. Values whose name says that they are secret never get out.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";

/** The levels, the chattiest first. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

/** How much a record matters. */
export type LogLevel = typeof LOG_LEVELS[number];

/** How records are written. */
export type LogFormat = "text" | "json";

/** Facts of a record by name. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Where notes go. A call never throws and never waits. */
export interface Log {
  /** Each message on a wire. */
  trace(message: string, fields?: LogFields): void;
  /** Each call. */
  debug(message: string, fields?: LogFields): void;
  /** What an operator wants to read. */
  info(message: string, fields?: LogFields): void;
  /** Something went wrong and was survived. */
  warn(message: string, fields?: LogFields): void;
  /** Something went wrong that should be mended. */
  error(message: string, fields?: LogFields): void;
  /** The same log with more fields on every record. */
  child(fields: LogFields): Log;
}

/** A log whose level can be changed while it is used: the logs made of it with `child` follow. */
export interface RootLog extends Log {
  /** Records below it are dropped from now on. */
  level: LogLevel;
  /** Asked for each record that is written: fields that belong to what runs now, such as its trace. */
  context: (() => LogFields | undefined) | undefined;
  /** Has somebody hear of each change of the level from now on, until the answer is disposed of. */
  onLevel(listener: (level: LogLevel) => void): Disposable;
}

/** Options of {@link createLog}. */
export interface LogOptions {
  /** Records below this level are dropped. Default `info`. */
  readonly level?: LogLevel;
  /** Default `text`. */
  readonly format?: LogFormat;
  /** Takes one line with its line feed. Default: standard error. */
  readonly write?: (line: string) => void;
  /** Milliseconds since the epoch. Default: the clock of this machine. */
  readonly now?: () => number;
}

/** A log that drops everything. */
export const noLog: Log = {
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => noLog,
};

/** What a root log and all of its children share. */
interface Shared extends LogTarget {
  level: LogLevel;
  context: RootLog["context"];
  readonly listeners: Set<(level: LogLevel) => void>;
}

/**
 * Makes a log.
 *
 * @param options Level, format and destination.
 */
export function createLog(options: LogOptions = {}): RootLog {
  const { level = "info", format = "text", write = writeToStderr, now = Date.now } = options;
  const line = format === "json" ? jsonLine : textLine;
  const shared: Shared = {
    level,
    context: undefined,
    listeners: new Set(),
    write(recordLevel, message, fields) {
      const time = new Date(now()).toISOString();
      const all = plainFields({ ...shared.context?.(), ...fields });
      write(line(time, recordLevel, message, all) + "\n");
    },
  };
  return {
    ...logOf(shared, {}),
    get level() {
      return shared.level;
    },
    set level(changed) {
      if (changed === shared.level) return;
      shared.level = changed;
      for (const listener of shared.listeners) listener(changed);
    },
    get context() {
      return shared.context;
    },
    set context(changed) {
      shared.context = changed;
    },
    onLevel(listener) {
      // Each has a place of its own, also where somebody listens twice.
      const own = (changed: LogLevel) => listener(changed);
      shared.listeners.add(own);
      return { [Symbol.dispose]: () => void shared.listeners.delete(own) };
    },
  };
}

/**
 * Whether a word names a level.
 *
 * @param text Such as `debug`.
 */
export function isLogLevel(text: string): text is LogLevel {
  return LOG_LEVELS.some((level) => level === text);
}

/** Where the records of a log and of those made from it go. */
export interface LogTarget {
  /** Records below it are dropped; it may change. */
  readonly level: LogLevel;
  /** Takes a record. */
  readonly write: (level: LogLevel, message: string, fields: LogFields) => void;
}

/**
 * A log with its own fields on every record.
 *
 * @param shared Where they go.
 * @param base The fields.
 */
export function logOf(shared: LogTarget, base: LogFields = {}): Log {
  const at = (level: LogLevel) => {
    const rank = LOG_LEVELS.indexOf(level);
    return (message: string, fields?: LogFields) => {
      if (rank < LOG_LEVELS.indexOf(shared.level)) return;
      shared.write(level, message, { ...base, ...fields });
    };
  };
  return {
    trace: at("trace"),
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => logOf(shared, { ...base, ...fields }),
  };
}

/** A field as it is written: nothing nested but plain JSON. */
type Plain = string | number | boolean | null;

/** Longest value written, in characters; the rest is cut off. */
const VALUE_LENGTH_MAX = 4096;

/** Names of fields whose values stay here. */
const SECRET =
  /secret|token|passw|credential|authorization|cookie|bearer|(api|access|private)[_.-]?key|^env$/i;

/** Secrets that are told by what is around them: of a header, of an address. */
const SECRET_PARTS: readonly (readonly [RegExp, string])[] = [
  [/\b(bearer|basic)\s+[\w.~+/=-]{8,}/gi, "$1 [redacted]"],
  [/(:\/\/[^/\s:@]*):[^/\s@]+@/g, "$1:[redacted]@"],
];

function plainFields(fields: LogFields): [string, Plain][] {
  const plain: [string, Plain][] = [];
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    plain.push([key, SECRET.test(key) ? "[redacted]" : plainValue(value)]);
  }
  return plain;
}

function plainValue(value: unknown): Plain {
  if (value === null || typeof value === "boolean" || typeof value === "number") return value;
  if (typeof value === "string") return shorten(value);
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Error) return shorten(errorText(value));
  try {
    return shorten(JSON.stringify(value, hideSecrets) ?? String(value));
  } catch {
    return shorten(String(value));
  }
}

function hideSecrets(key: string, value: unknown): unknown {
  if (SECRET.test(key)) return "[redacted]";
  return typeof value === "bigint" ? value.toString() : value;
}

function shorten(whole: string): string {
  const text = SECRET_PARTS.reduce((from, [part, to]) => from.replaceAll(part, to), whole);
  if (text.length <= VALUE_LENGTH_MAX) return text;
  return `${text.slice(0, VALUE_LENGTH_MAX)}... (${text.length} characters)`;
}

/** Most causes of an error that are told. */
const CAUSES_MAX = 8;

/** An error with its causes; a foreign one with its stack, as nobody planned for it. */
function errorText(error: Error): string {
  const parts: string[] = [];
  let current: unknown = error;
  for (let depth = 0; depth < CAUSES_MAX && current !== undefined; depth++) {
    parts.push(oneErrorText(current));
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join("; caused by ");
}

function oneErrorText(error: unknown): string {
  if (error instanceof SandboxError) return `${error.code}: ${error.message}`;
  if (error instanceof Error) return error.stack ?? `${error.name}: ${error.message}`;
  return String(error);
}

function jsonLine(time: string, level: LogLevel, message: string, fields: [string, Plain][]) {
  return JSON.stringify({ ...Object.fromEntries(fields), time, level, message });
}

function textLine(time: string, level: LogLevel, message: string, fields: [string, Plain][]) {
  const parts = [time, level.toUpperCase().padEnd(5), oneLine(message)];
  for (const [key, value] of fields) parts.push(`${oneLine(key)}=${textValue(value)}`);
  return parts.join(" ");
}

function textValue(value: Plain): string {
  if (typeof value !== "string") return String(value);
  return /^[\w./:@+,-]+$/.test(value) ? value : JSON.stringify(value);
}

/** Control characters would let one record look like two. */
function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\u0000-\u001f\u007f\u2028\u2029]/g, (c) => JSON.stringify(c).slice(1, -1));
}

const encoder = new TextEncoder();

/** A reader that went away must not take the sandboxer with it. */
function writeToStderr(line: string): void {
  try {
    const bytes = encoder.encode(line);
    let written = 0;
    while (written < bytes.length) written += Deno.stderr.writeSync(bytes.subarray(written));
  } catch {
    // Nowhere to tell it.
  }
}
