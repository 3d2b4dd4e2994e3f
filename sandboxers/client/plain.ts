/**
 * Messages of the management API as the plain values that programs are given.
 *
 * @module
 */

import { timestampMs } from "@bufbuild/protobuf/wkt";
import type {
  Container as ContainerMessage,
  Event as EventMessage,
  Exit as ExitMessage,
  InfoResponse,
  LogEntry,
  Process as ProcessMessage,
  Sandbox as SandboxMessage,
  SandboxStats,
  Usage,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { Exit, Stats } from "../lifecycle/spec.ts";
import type {
  ContainerStatus,
  LogLine,
  ProcessStatus,
  SandboxerEvent,
  SandboxerInfo,
  SandboxStatus,
  SandboxUsage,
} from "./api.ts";
import { processStateName, sandboxStateName } from "./state_names.ts";

type Timestamp = Parameters<typeof timestampMs>[0];

/** A time; 0 for none. */
function at(time: Timestamp | undefined): number {
  return time === undefined ? 0 : timestampMs(time);
}

function reason(text: string): Exit["reason"] {
  const known = ["exited", "signaled", "trap", "oom", "lost"] as const;
  return known.find((each) => each === text) ?? "exited";
}

/** How something ended. */
export function plainExit(message: ExitMessage): Exit {
  const { status } = message;
  return {
    status,
    at: at(message.at),
    reason: reason(message.reason),
    ...(message.message === "" ? {} : { message: message.message }),
  };
}

/** Set where something has ended. */
function ended(message: ExitMessage | undefined): { readonly exit?: Exit } {
  return message === undefined ? {} : { exit: plainExit(message) };
}

/** Who a sandboxer is. */
export function plainInfo({ $typeName: _, ...info }: InfoResponse): SandboxerInfo {
  const counts = Object.entries(info.counts).map(([name, count]) => [name, Number(count)]);
  return { ...info, startedAt: at(info.startedAt), counts: Object.fromEntries(counts) };
}

/** A sandbox. */
export function plainSandbox({ $typeName: _, exit, ...sandbox }: SandboxMessage): SandboxStatus {
  return {
    ...sandbox,
    state: sandboxStateName(sandbox.state),
    createdAt: at(sandbox.createdAt),
    containers: sandbox.containers.map(plainContainer),
    ...ended(exit),
  };
}

function plainContainer({ $typeName: _, exit, ...container }: ContainerMessage): ContainerStatus {
  return {
    ...container,
    state: processStateName(container.state),
    execs: container.execs.map(plainProcess),
    ...ended(exit),
  };
}

function plainProcess({ $typeName: _, exit, ...process }: ProcessMessage): ProcessStatus {
  return { ...process, state: processStateName(process.state), ...ended(exit) };
}

/** An event. */
export function plainEvent({ $typeName: _, exit, ...event }: EventMessage): SandboxerEvent {
  return {
    ...event,
    at: at(event.at),
    lostBefore: Number(event.lostBefore),
    ...ended(exit),
  };
}

/** What a sandbox uses. */
export function plainUsage({ sandboxId, usage, containers }: SandboxStats): SandboxUsage {
  return {
    sandboxId,
    ...(usage === undefined ? {} : { usage: plainStats(usage) }),
    containers: containers.flatMap(({ containerId, usage }) =>
      usage === undefined ? [] : [{ containerId, usage: plainStats(usage) }]
    ),
  };
}

function plainStats(usage: Usage): Stats {
  const limitBytes = Number(usage.memoryLimitBytes);
  return {
    at: at(usage.at),
    cpuNs: Number(usage.cpuNs),
    memoryBytes: Number(usage.memoryBytes),
    ...(limitBytes === 0 ? {} : { memoryLimitBytes: limitBytes }),
    pids: usage.pids,
  };
}

/** A piece of a log. */
export function plainLogLine({ stream, content, partial, ...entry }: LogEntry): LogLine {
  return {
    at: at(entry.at),
    stream: stream === "stderr" ? "stderr" : "stdout",
    content,
    partial,
  };
}
