/**
 * The log of a pod process: records go to the sandboxer, which writes them with its own. While none
 * is connected they are dropped.
 *
 * @module
 */

import { type Log, type LogFields, type LogLevel, logOf } from "../../log.ts";
import type { PodMessage } from "./protocol.ts";

/** See the module. */
export interface PodLog extends Log {
  /** Records below it are dropped from now on, also those of logs that were made with `child`. */
  level: LogLevel;
}

/**
 * Makes the log.
 *
 * @param level Records below it are dropped, until it is changed.
 * @param send Tells the sandboxer.
 */
export function podLog(level: LogLevel, send: (message: PodMessage) => void): PodLog {
  const shared = {
    level,
    write: (recordLevel: LogLevel, message: string, fields: LogFields) =>
      send({ kind: "log", level: recordLevel, message, fields: plain(fields) }),
  };
  return {
    ...logOf(shared),
    get level() {
      return shared.level;
    },
    set level(changed) {
      shared.level = changed;
    },
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
