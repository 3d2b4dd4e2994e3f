/**
 * Reads what runsc's calls answer: JSON whose fields are checked one by one.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { RunscStatus } from "./runsc_state.ts";

/** A container as runsc sees it. */
export interface RunscState {
  /** Its id. */
  readonly id: string;
  /** Its state. */
  readonly status: RunscStatus;
  /** The process of its sandbox; 0 where it has ended. */
  readonly pid: number;
  /** Its bundle. */
  readonly bundle: string;
}

/** What a container uses. */
export interface RunscStats {
  /** CPU time so far, in nanoseconds. */
  readonly cpuNs: number;
  /** Memory of its whole sandbox, in bytes. */
  readonly memoryBytes: number;
  /** Memory limit in bytes; 0 for none. */
  readonly memoryLimitBytes: number;
  /** Its processes. */
  readonly pids: number;
}

const STATUSES: readonly RunscStatus[] = ["creating", "created", "running", "paused", "stopped"];

/**
 * The answer of `runsc state`.
 *
 * @param action What is being done, for errors.
 * @throws {SandboxError} `Internal` for anything else; likewise below.
 */
export function parseState(action: string, text: string): RunscState {
  return state(action, parse(action, text));
}

/** The answer of `runsc list --format=json`; none at all is `null`. */
export function parseList(action: string, text: string): RunscState[] {
  const value = parse(action, text);
  if (value === null) return [];
  if (!Array.isArray(value)) throw strange(action, text);
  return value.map((entry: unknown) => state(action, entry));
}

/** The answer of `runsc wait`: the exit status. */
export function parseWait(action: string, text: string): number {
  const status = at(parse(action, text), "exitStatus");
  if (typeof status !== "number") throw strange(action, text);
  return status;
}

/** The answer of `runsc ps --format=json`. */
export function parsePids(action: string, text: string): number[] {
  const value = parse(action, text);
  if (value === null) return [];
  const isPid = (entry: unknown): entry is number => typeof entry === "number";
  if (!Array.isArray(value) || !value.every(isPid)) throw strange(action, text);
  return value;
}

/** The answer of `runsc events --stats`. */
export function parseStats(action: string, text: string): RunscStats {
  const data = at(parse(action, text), "data");
  const usage = at(data, "memory", "usage");
  const cpuNs = at(data, "cpu", "usage", "total");
  const memoryBytes = at(usage, "usage");
  if (typeof cpuNs !== "number" || typeof memoryBytes !== "number") throw strange(action, text);
  const number = (value: unknown) => typeof value === "number" ? value : 0;
  return {
    cpuNs,
    memoryBytes,
    memoryLimitBytes: number(at(usage, "limit")),
    pids: number(at(data, "pids", "current")),
  };
}

function state(action: string, value: unknown): RunscState {
  const [id, status, pid, bundle] = ["id", "status", "pid", "bundle"].map((name) =>
    at(value, name)
  );
  const known = STATUSES.find((candidate) => candidate === status);
  if (typeof id !== "string" || known === undefined) throw strange(action, JSON.stringify(value));
  return {
    id,
    status: known,
    pid: typeof pid === "number" && pid > 0 ? pid : 0,
    bundle: typeof bundle === "string" ? bundle : "",
  };
}

function parse(action: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw strange(action, text);
  }
}

/** A field of a field. */
function at(value: unknown, ...names: readonly string[]): unknown {
  let found = value;
  for (const name of names) {
    if (typeof found !== "object" || found === null || !Object.hasOwn(found, name)) {
      return undefined;
    }
    found = Object.entries(found).find(([key]) => key === name)?.[1];
  }
  return found;
}

function strange(action: string, text: string): SandboxError {
  const said = text.trim().slice(0, 200);
  return new SandboxError("Internal", `${action}: runsc gave a strange answer: "${said}"`);
}
