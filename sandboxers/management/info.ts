/**
 * Who this sandboxer is and how much it holds, and the level of its log.
 *
 * @module
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { InfoResponseSchema } from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import { type Log, LOG_LEVELS, type LogLevel, type RootLog } from "../log.ts";
import type { ManagementPorts } from "./ports.ts";

/**
 * Who this is.
 *
 * @param ports What it is made of.
 * @param streams How many streams of this API are open.
 */
export function infoMessage(
  { sandboxer, dir, log, version, startedAt, abilities, metricsAddress = "" }: ManagementPorts,
  streams: number,
): MessageInitShape<typeof InfoResponseSchema> {
  const { kind, capabilities } = sandboxer.driver;
  const counts = Object.entries({ ...sandboxer.counts(), streams });
  return {
    kind,
    version,
    pid: Deno.pid,
    startedAt: timestampFromMs(startedAt),
    stateDir: dir,
    logLevel: isRootLog(log) ? log.level : "",
    capabilities: {
      ...capabilities,
      run: abilities.runs !== undefined,
      snapshot: abilities.snapshots !== undefined,
      restore: abilities.snapshots !== undefined,
    },
    counts: Object.fromEntries(counts.map(([name, count]) => [name, BigInt(count)])),
    details: { ...abilities.details?.() },
    metricsAddress,
  };
}

/**
 * Changes what is logged from now on.
 *
 * @param level One of the levels of the log.
 * @returns The level until now.
 * @throws {SandboxError} `InvalidArgument`, or `Unimplemented` where the log's level cannot be changed.
 */
export function setLogLevel(log: Log, level: string): LogLevel {
  const next = LOG_LEVELS.find((each) => each === level);
  if (next === undefined) {
    throw new SandboxError(
      "InvalidArgument",
      `invalid log level ${JSON.stringify(level)}: expected one of ${LOG_LEVELS.join(", ")}`,
    );
  }
  if (!isRootLog(log)) {
    throw new SandboxError("Unimplemented", "cannot change the log level: this log has none");
  }
  const previous = log.level;
  log.level = next;
  log.info("log level changed", { previous, level: next });
  return previous;
}

function isRootLog(log: Log): log is RootLog {
  return "level" in log;
}
