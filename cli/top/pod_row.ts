/**
 * Pods and containers as rows, with their states in words.
 *
 * @module
 */

import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type Container,
  type Exit,
  ProcessState,
  type Sandbox,
  SandboxState,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { UsageNow, UsageRates } from "./usage_rates.ts";

/** A state in words, and how good it is. */
export interface StateInWords {
  /** One or two short words. */
  readonly word: string;
  /** Whether that is as it should be, on its way, over, or bad. */
  readonly mood: "good" | "moving" | "held" | "over" | "bad";
}

/** A container of a pod. */
export interface ContainerRow {
  /** Unique among all rows. */
  readonly key: string;
  /** Its id. */
  readonly id: string;
  /** Its name, or the beginning of its id. */
  readonly name: string;
  /** Its image; may be empty. */
  readonly image: string;
  /** Its state. */
  readonly state: StateInWords;
  /** Whether its first process runs. */
  readonly isRunning: boolean;
  /** Its first process; 0 where it has none. */
  readonly pid: number;
  /** What its first process was started with. */
  readonly args: readonly string[];
  /** How many more processes were started in it. */
  readonly execs: number;
  /** What it uses; undefined before that is known. */
  readonly usage: UsageNow | undefined;
}

/** A pod. */
export interface PodRow {
  /** Unique among all rows. */
  readonly key: string;
  /** Its sandboxer's socket. */
  readonly address: string;
  /** Its sandboxer's kind. */
  readonly kind: string;
  /** Its id. */
  readonly id: string;
  /** Its name, or the beginning of its id. */
  readonly name: string;
  /** The containerd namespace. */
  readonly namespace: string;
  /** Its state. */
  readonly state: StateInWords;
  /** When it was made, in milliseconds since the epoch. */
  readonly createdAtMs: number;
  /** What it uses; undefined before that is known. */
  readonly usage: UsageNow | undefined;
  /** Whether the management API made it. */
  readonly managed: boolean;
  /** Its containers. */
  readonly containers: readonly ContainerRow[];
  /** Everything that was said about it. */
  readonly sandbox: Sandbox;
}

/** How long an id is where it stands for a name. */
const SHORT_ID = 12;

const SANDBOX_STATES: Readonly<Record<SandboxState, StateInWords>> = {
  [SandboxState.UNSPECIFIED]: { word: "unknown", mood: "over" },
  [SandboxState.CREATED]: { word: "created", mood: "moving" },
  [SandboxState.STARTING]: { word: "starting", mood: "moving" },
  [SandboxState.READY]: { word: "ready", mood: "good" },
  [SandboxState.STOPPING]: { word: "stopping", mood: "moving" },
  [SandboxState.STOPPED]: { word: "stopped", mood: "over" },
  [SandboxState.FAILED]: { word: "failed", mood: "bad" },
};

const PROCESS_STATES: Readonly<Record<ProcessState, StateInWords>> = {
  [ProcessState.UNSPECIFIED]: { word: "unknown", mood: "over" },
  [ProcessState.CREATED]: { word: "created", mood: "moving" },
  [ProcessState.RUNNING]: { word: "running", mood: "good" },
  [ProcessState.PAUSED]: { word: "paused", mood: "held" },
  [ProcessState.STOPPED]: { word: "stopped", mood: "over" },
};

/**
 * Makes a row of a pod.
 *
 * @param sandbox The pod as its sandboxer describes it.
 * @param sandboxer Where it is, and whether what is known of it may be out of date.
 * @param usage What the sandboxer's pods use.
 */
export function podRow(
  sandbox: Sandbox,
  sandboxer: { readonly address: string; readonly kind: string; readonly stale: boolean },
  usage: UsageRates,
): PodRow {
  const { id, name, namespace, createdAt, managed } = sandbox;
  const key = `${sandboxer.address}\n${id}`;
  const containers = sandbox.containers.map((container) => containerRow(key, id, container, usage));
  return {
    key,
    address: sandboxer.address,
    kind: sandboxer.kind,
    id,
    name: name || id.slice(0, SHORT_ID),
    namespace,
    state: sandboxer.stale ? { word: "unknown", mood: "over" } : podState(sandbox),
    createdAtMs: createdAt === undefined ? 0 : timestampMs(createdAt),
    usage: isOver(sandbox) ? undefined : podUsage(usage.get(id, ""), containers),
    managed,
    containers,
    sandbox,
  };
}

/** A pod without a limit of its own is limited where all its containers are. */
function podUsage(
  usage: UsageNow | undefined,
  containers: readonly ContainerRow[],
): UsageNow | undefined {
  if (usage === undefined || usage.memoryLimitBytes !== undefined) return usage;
  const limits = containers.map((container) => container.usage?.memoryLimitBytes ?? Infinity);
  const memoryLimitBytes = limits.reduce((sum, limit) => sum + limit, 0);
  return limits.length > 0 && memoryLimitBytes < Infinity ? { ...usage, memoryLimitBytes } : usage;
}

/** Whether nothing runs any more: what was measured last is no longer used. */
function isOver({ state }: Sandbox): boolean {
  return state === SandboxState.STOPPED || state === SandboxState.FAILED;
}

/** A pod whose containers are all paused is paused itself. */
function podState({ state, containers }: Sandbox): StateInWords {
  const paused = PROCESS_STATES[ProcessState.PAUSED];
  const allPaused = containers.length > 0 &&
    containers.every(({ state }) => state === ProcessState.PAUSED);
  if (state === SandboxState.READY && allPaused) return paused;
  return SANDBOX_STATES[state] ?? SANDBOX_STATES[SandboxState.UNSPECIFIED];
}

function containerRow(
  podKey: string,
  sandboxId: string,
  container: Container,
  usage: UsageRates,
): ContainerRow {
  const { id, name, image, state, pid, args, execs } = container;
  return {
    key: `${podKey}\n${id}`,
    id,
    name: name || id.slice(0, SHORT_ID),
    image,
    state: containerState(container),
    isRunning: state === ProcessState.RUNNING,
    pid,
    args,
    execs: execs.length,
    usage: state === ProcessState.STOPPED ? undefined : usage.get(sandboxId, id),
  };
}

function containerState({ state, exit }: Container): StateInWords {
  if (state === ProcessState.STOPPED && exit !== undefined) return exitInWords(exit);
  return PROCESS_STATES[state] ?? PROCESS_STATES[ProcessState.UNSPECIFIED];
}

/** An end in words, such as `exited 0`. */
function exitInWords({ status, reason }: Exit): StateInWords {
  if (reason === "oom") return { word: "out of mem", mood: "bad" };
  if (reason === "trap" || reason === "lost") return { word: reason, mood: "bad" };
  if (reason === "signaled" || status > 128) {
    // Ends by a signal are asked for as often as not.
    return { word: `signal ${status > 128 ? status - 128 : status}`, mood: "over" };
  }
  return { word: `exited ${status}`, mood: status === 0 ? "over" : "bad" };
}
