/**
 * A log for kinds that are embedded in a program: it is told of what went wrong and was survived, and
 * of nothing else.
 *
 * @module
 */

import { type Log, noLog } from "../log.ts";
import type { OpenOptions } from "./api.ts";

/**
 * Makes the log.
 *
 * @param options Who hears of warnings.
 */
export function warningLog({ onWarning }: Pick<OpenOptions, "onWarning">): Log {
  const warn = onWarning ?? noLog.warn;
  const log: Log = { ...noLog, warn, error: warn, child: () => log };
  return log;
}
