/**
 * The log of a pod process: records go to the sandboxer, which writes them with its own. While none
 * is connected they are dropped.
 *
 * @module
 */

import { type Log, LOG_LEVELS, type LogFields, type LogLevel } from "../../log.ts";
import type { PodMessage } from "./protocol.ts";

/**
 * Makes the log.
 *
 * @param level Records below it are dropped.
 * @param send Tells the sandboxer.
 * @param base Fields of every record.
 */
export function podLog(
  level: LogLevel,
  send: (message: PodMessage) => void,
  base: LogFields = {},
): Log {
  const threshold = LOG_LEVELS.indexOf(level);
  const at = (recordLevel: LogLevel) => {
    if (LOG_LEVELS.indexOf(recordLevel) < threshold) return () => undefined;
    return (message: string, fields: LogFields = {}) =>
      send({ kind: "log", level: recordLevel, message, fields: plain({ ...base, ...fields }) });
  };
  return {
    trace: at("trace"),
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    child: (fields) => podLog(level, send, { ...base, ...fields }),
  };
}

/** Values as JSON can hold them. */
function plain(fields: LogFields): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, value]) => {
      const isPlain = ["string", "number", "boolean"].includes(typeof value) || value === null;
      if (isPlain) return [name, value];
      if (value instanceof Error) return [name, value.stack ?? value.message];
      return [name, typeof value === "object" ? JSON.stringify(value) : String(value)];
    }),
  );
}
