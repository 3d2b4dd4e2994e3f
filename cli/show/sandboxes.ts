/**
 * Sandboxes and what is in them in the words of this command: states by name, times by ISO 8601,
 * plain JSON without anything of the wire.
 *
 * @module
 */

import { type Timestamp, timestampDate, timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type Container,
  type Exit,
  type Process,
  ProcessState,
  type Sandbox,
  SandboxState,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { Colour } from "./colours.ts";

/** What JSON can hold. */
export type Json = string | number | boolean | null | readonly Json[] | {
  readonly [key: string]: Json;
};

/** The states of a sandbox, by their numbers. */
const SANDBOX_STATES: Readonly<Record<SandboxState, string>> = {
  [SandboxState.UNSPECIFIED]: "unknown",
  [SandboxState.CREATED]: "created",
  [SandboxState.STARTING]: "starting",
  [SandboxState.READY]: "ready",
  [SandboxState.STOPPING]: "stopping",
  [SandboxState.STOPPED]: "stopped",
  [SandboxState.FAILED]: "failed",
};

/** The states of a process, by their numbers. */
const PROCESS_STATES: Readonly<Record<ProcessState, string>> = {
  [ProcessState.UNSPECIFIED]: "unknown",
  [ProcessState.CREATED]: "created",
  [ProcessState.RUNNING]: "running",
  [ProcessState.PAUSED]: "paused",
  [ProcessState.STOPPED]: "exited",
};

/** The colours of states; others have none. */
const STATE_COLOURS: Readonly<Record<string, Colour>> = {
  ready: "green",
  starting: "yellow",
  stopping: "yellow",
  stopped: "dim",
  failed: "red",
};

/** The names of a sandbox's states, for completion and messages. */
export const STATE_NAMES: readonly string[] = Object.values(SANDBOX_STATES).slice(1);

/** The name of a sandbox's state. A later version may have others. */
export function stateOf({ state }: Pick<Sandbox, "state">): string {
  return SANDBOX_STATES[state] ?? "unknown";
}

/** The colour of a sandbox's state. */
export function colourOfState(sandbox: Pick<Sandbox, "state">): Colour | undefined {
  return STATE_COLOURS[stateOf(sandbox)];
}

/** The name of the state of a process or container. */
export function processStateOf({ state }: Pick<Process, "state">): string {
  return PROCESS_STATES[state] ?? "unknown";
}

/** Whether a sandbox is over, or all that it was made for is. */
export function isOver({ state, managed, containers }: Sandbox): boolean {
  if (state === SandboxState.STOPPED || state === SandboxState.FAILED) return true;
  return managed && containers.length > 0 &&
    containers.every((container) => container.state === ProcessState.STOPPED);
}

/**
 * The containers of a sandbox in a few words: how many are in which state, and how one alone ended.
 *
 * @returns Such as `2 running`, `1 running, 1 exited`, `1 exited (3)`, or `-`.
 */
export function showContainers({ containers }: Pick<Sandbox, "containers">): string {
  if (containers.length === 0) return "-";
  const byState = Map.groupBy(containers, processStateOf);
  const [only, ...more] = containers;
  const ended = more.length === 0 && only?.exit !== undefined ? ` (${only.exit.status})` : "";
  return [...byState].map(([state, some]) => `${some.length} ${state}`).join(", ") + ended;
}

/** The images of a sandbox, each once. */
export function showImages({ containers }: Pick<Sandbox, "containers">): string {
  const images = new Set(containers.map(({ image }) => image).filter((image) => image !== ""));
  return images.size === 0 ? "-" : [...images].join(", ");
}

/** Characters of an id that are shown unless all are asked for, as other container tools have it. */
const SHORT_ID = 13;

/** The beginning of an id, which mostly is enough to name it. */
export function shortId(id: string): string {
  return id.slice(0, SHORT_ID);
}

/** A point in time as JSON has it; null where there is none. */
export function timeJson(at: Timestamp | undefined): string | null {
  return at === undefined ? null : timestampDate(at).toISOString();
}

/** A point in time in milliseconds since the epoch; 0 where there is none. */
export function timeMs(at: Timestamp | undefined): number {
  return at === undefined ? 0 : timestampMs(at);
}

/** How something ended, as JSON; null where it has not. */
export function exitJson(exit: Exit | undefined): Json {
  if (exit === undefined) return null;
  const { status, at, reason, message } = exit;
  return { status, at: timeJson(at), reason, ...(message === "" ? {} : { message }) };
}

/** A process as JSON. */
function processJson(process: Process): Json {
  const { execId, pid, args, exit } = process;
  return { id: execId, state: processStateOf(process), pid, args, exit: exitJson(exit) };
}

/** A container as JSON. */
function containerJson(container: Container): Json {
  const { id, name, image, pid, args, terminal, exit, execs } = container;
  return {
    ...{ id, name, image, state: processStateOf(container), pid, args, terminal },
    exit: exitJson(exit),
    execs: execs.map(processJson),
  };
}

/** A sandbox as JSON. */
export function sandboxJson(sandbox: Sandbox): { readonly [key: string]: Json } {
  const { id, name, namespace, kind, pid, labels, annotations, runtime, network } = sandbox;
  return {
    ...{ id, name, namespace, kind, state: stateOf(sandbox) },
    createdAt: timeJson(sandbox.createdAt),
    ...{ pid, runtime, network, managed: sandbox.managed, labels, annotations },
    exit: exitJson(sandbox.exit),
    containers: sandbox.containers.map(containerJson),
  };
}
