/**
 * What sandboxer and pod process say to each other: the driver's contract (lifecycle/driver.ts) as
 * messages. The sandboxer calls, the pod process answers; in between it tells of exits, and asks for
 * compiled code. Whoever changes a message raises {@link PROTOCOL_VERSION} in hello.ts.
 *
 * A pod process runs the code of strangers, so the sandboxer believes nothing that it says without
 * looking: {@link parseMessage} checks every field.
 *
 * @module
 */

import { type ErrorCode, SandboxError, STATUS_NUMBER } from "../../lifecycle/errors.ts";
import type {
  ContainerSpec,
  ExecSpec,
  Exit,
  ResourceSpec,
  SandboxSpec,
  Stats,
} from "../../lifecycle/spec.ts";
import { LOG_LEVELS, type LogLevel } from "../../log.ts";

/** What a pod process is given on its standard input, as one JSON text. */
export interface PodStart {
  /** The pod. Its network is what the process is in already. */
  readonly spec: SandboxSpec;
  /** The directory of its socket: once that is gone, nobody will ever call again. */
  readonly directory: string;
  /** Below it nothing is logged, until the sandboxer says otherwise. */
  readonly logLevel: LogLevel;
}

/** What a pod process writes to standard output when it has started, or failed to; one line. */
export type PodStarted =
  | { readonly ready: true }
  | { readonly ready: false; readonly error: WireError };

/** An error on the wire. */
export interface WireError {
  /** See lifecycle/errors.ts. */
  readonly code: ErrorCode;
  /** For people. */
  readonly message: string;
}

/** A call with its parameters. `process` numbers a process for as long as the pod lives. */
export type Request =
  /** `ticket` names the descriptors that were sent for the paths in the spec; see passed_files.ts. */
  | { readonly call: "create-container"; readonly spec: ContainerSpec; readonly ticket: number }
  | { readonly call: "start"; readonly container: string; readonly process: number }
  | {
    readonly call: "exec";
    readonly container: string;
    readonly process: number;
    readonly spec: ExecSpec;
    readonly ticket: number;
  }
  | { readonly call: "kill"; readonly process: number; readonly signal: number }
  | { readonly call: "close-stdin"; readonly process: number }
  | { readonly call: "pause" | "resume" | "pids" | "stats" | "delete"; readonly container: string }
  | { readonly call: "update"; readonly container: string; readonly resources: ResourceSpec }
  | { readonly call: "update-sandbox"; readonly resources: ResourceSpec }
  | { readonly call: "sandbox-stats" }
  /** Processes of earlier versions take it for a call that does nothing. */
  | { readonly call: "log-level"; readonly level: LogLevel }
  | { readonly call: "stop"; readonly graceMs: number };

/** What each call answers. */
export interface Answers {
  /** Nothing: it is there. */
  readonly "create-container": null;
  /** The thread id. */
  readonly start: number;
  /** The thread id. */
  readonly exec: number;
  /** Nothing: it was sent. */
  readonly kill: null;
  /** Nothing: it is closed. */
  readonly "close-stdin": null;
  /** Nothing: it is frozen. */
  readonly pause: null;
  /** Nothing: it is thawed. */
  readonly resume: null;
  /** Thread ids. */
  readonly pids: readonly number[];
  /** What the container uses. */
  readonly stats: Stats;
  /** Nothing: it is gone. */
  readonly delete: null;
  /** Nothing: the limits hold. */
  readonly update: null;
  /** Nothing: the limits hold. */
  readonly "update-sandbox": null;
  /** What all containers use. */
  readonly "sandbox-stats": Stats;
  /** Nothing: records below it are dropped. */
  readonly "log-level": null;
  /** Nothing: no guest runs any more. */
  readonly stop: null;
}

/** A frame from the sandboxer. */
export type SandboxerMessage =
  /** Calls; answered once, with the same number. */
  | { readonly kind: "call"; readonly id: number; readonly request: Request }
  /** The caller of a call has given up; the call is answered all the same. */
  | { readonly kind: "cancel"; readonly id: number }
  /** Answers a `find`: the ticket of one descriptor, or 0. */
  | { readonly kind: "found"; readonly id: number; readonly ticket: number };

/** A process as a pod process knows it. */
export interface ProcessState {
  /** The container it is in. */
  readonly container: string;
  /** Empty for the init process. */
  readonly execId: string;
  /** See {@link Request}. */
  readonly process: number;
  /** Thread id. */
  readonly pid: number;
  /** Set once it has ended. */
  readonly exit?: Exit;
}

/** A frame from a pod process. */
export type PodMessage =
  /** The first frame of a connection: all that there is. */
  | {
    readonly kind: "state";
    readonly containers: readonly { readonly id: string; readonly paused: boolean }[];
    readonly processes: readonly ProcessState[];
    /** Numbers above it are free for new processes. */
    readonly lastProcess: number;
  }
  | { readonly kind: "answer"; readonly id: number; readonly value: unknown }
  | { readonly kind: "refusal"; readonly id: number; readonly error: WireError }
  | { readonly kind: "exit"; readonly process: number; readonly exit: Exit }
  /** Asks for the compiled code of a module; `found` answers. */
  | { readonly kind: "find"; readonly id: number; readonly digest: string }
  /** Would like a module compiled: the program of a container, or of an exec in it. */
  | { readonly kind: "compile"; readonly digest: string }
  /** Compiled code did not load. */
  | { readonly kind: "reject"; readonly digest: string }
  | {
    readonly kind: "log";
    readonly level: LogLevel;
    readonly message: string;
    readonly fields: Readonly<Record<string, unknown>>;
  };

/** Most characters of a text that comes from a pod process. */
const TEXT_LENGTH_MAX = 4_096;
/** Most entries of a list that comes from a pod process. */
const LIST_LENGTH_MAX = 100_000;
const REASONS = ["exited", "signaled", "trap", "oom", "lost"] as const;

/**
 * Reads a frame from a pod process.
 *
 * @param value What the frame held.
 * @throws {SandboxError} `InvalidArgument` for anything else than a {@link PodMessage}.
 */
export function parseMessage(value: unknown): PodMessage {
  const frame = object(value);
  switch (frame.kind) {
    case "state":
      return {
        kind: "state",
        containers: list(frame.containers, (entry) => {
          const { id, paused } = object(entry);
          return { id: text(id), paused: paused === true };
        }),
        processes: list(frame.processes, processState),
        lastProcess: integer(frame.lastProcess),
      };
    case "answer":
      return { kind: "answer", id: integer(frame.id), value: frame.value };
    case "refusal":
      return { kind: "refusal", id: integer(frame.id), error: wireError(frame.error) };
    case "exit":
      return { kind: "exit", process: integer(frame.process), exit: exit(frame.exit) };
    case "find":
      return { kind: "find", id: integer(frame.id), digest: digest(frame.digest) };
    case "compile":
    case "reject":
      return { kind: frame.kind, digest: digest(frame.digest) };
    case "log":
      return {
        kind: "log",
        level: LOG_LEVELS.find((level) => level === frame.level) ?? "warn",
        message: text(frame.message),
        fields: { ...object(frame.fields) },
      };
    default:
      throw unexpected("a message", frame.kind);
  }
}

/** Reads the line of {@link PodStarted}; see {@link parseMessage}. */
export function parseStarted(line: string): PodStarted {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw unexpected("the first line of a pod process", line);
  }
  const { ready, error } = object(value);
  return ready === true ? { ready: true } : { ready: false, error: wireError(error) };
}

/** The answer of a call, checked; see {@link parseMessage}. */
export function parseAnswer<C extends Request["call"]>(call: C, value: unknown): Answers[C] {
  const parse: { readonly [K in Request["call"]]: (value: unknown) => Answers[K] } = {
    "create-container": nothing,
    start: integer,
    exec: integer,
    kill: nothing,
    "close-stdin": nothing,
    pause: nothing,
    resume: nothing,
    pids: (pids) => list(pids, integer),
    stats,
    delete: nothing,
    update: nothing,
    "update-sandbox": nothing,
    "sandbox-stats": stats,
    // An earlier version of the pod process answers with no value at all.
    "log-level": () => null,
    stop: nothing,
  };
  return parse[call](value);
}

/** An error as it goes over the wire. */
export function toWire(error: unknown): WireError {
  const { code, message } = SandboxError.from(error);
  return { code, message };
}

/** An error as it came over the wire. */
export function fromWire({ code, message }: WireError): SandboxError {
  return new SandboxError(code, message);
}

function processState(value: unknown): ProcessState {
  const entry = object(value);
  return {
    container: text(entry.container),
    execId: text(entry.execId),
    process: integer(entry.process),
    pid: integer(entry.pid),
    ...(entry.exit === undefined ? {} : { exit: exit(entry.exit) }),
  };
}

function exit(value: unknown): Exit {
  const { status, at, reason, message } = object(value);
  const known = REASONS.find((name) => name === reason);
  if (known === undefined) throw unexpected("the reason of an exit", reason);
  if (integer(status) > 255) throw unexpected("an exit status", status);
  return {
    status: integer(status),
    at: integer(at),
    reason: known,
    ...(message === undefined ? {} : { message: text(message) }),
  };
}

function stats(value: unknown): Stats {
  const fields = object(value);
  const optional = (name: "memoryLimitBytes" | "memoryPages") =>
    fields[name] === undefined ? {} : { [name]: amount(fields[name]) };
  return {
    at: integer(fields.at),
    cpuNs: amount(fields.cpuNs),
    memoryBytes: amount(fields.memoryBytes),
    ...optional("memoryLimitBytes"),
    ...optional("memoryPages"),
    pids: integer(fields.pids),
  };
}

function wireError(value: unknown): WireError {
  const { code, message } = object(value);
  if (typeof code !== "string" || !isErrorCode(code)) throw unexpected("an error code", code);
  return { code, message: text(message) };
}

function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(STATUS_NUMBER, code);
}

function digest(value: unknown): string {
  if (typeof value === "string" && /^[0-9a-f]{64}$/.test(value)) return value;
  throw unexpected("a digest", value);
}

function nothing(): null {
  return null;
}

function integer(value: unknown): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw unexpected("an integer", value);
}

function amount(value: unknown): number {
  if (typeof value === "number" && Number.isFinite(value) && value >= 0) return value;
  throw unexpected("an amount", value);
}

function text(value: unknown): string {
  if (typeof value === "string") return value.slice(0, TEXT_LENGTH_MAX);
  throw unexpected("a text", value);
}

function list<T>(value: unknown, parse: (entry: unknown) => T): T[] {
  if (!Array.isArray(value) || value.length > LIST_LENGTH_MAX) throw unexpected("a list", value);
  return value.map(parse);
}

function object(value: unknown): { readonly [name: string]: unknown } {
  if (isObject(value)) return value;
  throw unexpected("an object", value);
}

function isObject(value: unknown): value is { readonly [name: string]: unknown } {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function unexpected(wanted: string, found: unknown): SandboxError {
  const shown = (JSON.stringify(found) ?? "nothing").slice(0, 100);
  return new SandboxError(
    "InvalidArgument",
    `cannot read what a pod process says: expected ${wanted}, found ${shown}`,
  );
}
