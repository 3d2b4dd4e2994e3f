/**
 * What `quasaur top` knows: every sandboxer with its pods, how busy they are and what happened last.
 * It is fed with the answers of the management API and the time, and asked for rows; it calls
 * nobody and draws nothing.
 *
 * @module
 */

import { timestampMs } from "@bufbuild/protobuf/wkt";
import type {
  Event,
  InfoResponse,
  StatsResponse,
  WatchResponse,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { type PodRow, podRow } from "./pod_row.ts";
import { type Quantiles, Starts } from "./starts.ts";
import { UsageRates } from "./usage_rates.ts";

/** How many events are remembered, of all sandboxers together. */
export const EVENTS_MAX = 1_000;

/** One thing that happened. */
export interface EventRow {
  /** When, in milliseconds since the epoch. */
  readonly atMs: number;
  /** The sandboxer's kind. */
  readonly kind: string;
  /** What, as the lifecycle names it. */
  readonly type: string;
  /** The sandbox. */
  readonly sandboxId: string;
  /** The container; empty where it is about the sandbox. */
  readonly containerId: string;
  /** More, for people; may be empty. */
  readonly detail: string;
}

/** A sandboxer as the header shows it. */
export interface SandboxerRow {
  /** Its socket. */
  readonly address: string;
  /** Its kind; the socket's name before it has answered. */
  readonly kind: string;
  /** Its version; empty before it has answered. */
  readonly version: string;
  /** Whether it answers. */
  readonly state: "connecting" | "up" | "gone";
  /** Since when it is in that state, in milliseconds since the epoch. */
  readonly sinceMs: number;
  /** Why it is gone. */
  readonly problem: string;
  /** How many pods it has. */
  readonly pods: number;
  /** How many containers. */
  readonly containers: number;
  /** CPUs in use by all pods; undefined before that is known. */
  readonly cpus: number | undefined;
  /** Memory in use by all pods, in bytes; undefined before that is known. */
  readonly memoryBytes: number | undefined;
  /** Starts of pods and containers per second. */
  readonly startsPerSecond: number;
  /** How long pods took from created to started. */
  readonly podStart: Quantiles | undefined;
  /** How long containers took from created to started. */
  readonly containerStart: Quantiles | undefined;
  /** How long its last answer took, in milliseconds. */
  readonly callMs: number | undefined;
}

/** What is known of one sandboxer. */
class SandboxerState {
  kind: string;
  version = "";
  state: SandboxerRow["state"] = "connecting";
  problem = "";
  callMs: number | undefined;
  readonly pods = new Map<string, WatchResponse["sandboxes"][number]>();
  readonly usage = new UsageRates();
  readonly podStarts = new Starts();
  readonly containerStarts = new Starts();
  lastEventMs: number | undefined;
  measurements = 0;
  /** Whether the next message of Watch brings all sandboxes. */
  startsOver = true;

  constructor(readonly address: string, public sinceMs: number) {
    this.kind = address.split("/").at(-1)?.replace(/\.sock$/, "") ?? address;
  }
}

/** The state of `quasaur top`. */
export class TopModel {
  readonly #sandboxers = new Map<string, SandboxerState>();
  readonly #events: EventRow[] = [];
  #version = 0;

  /** Grows with every change. */
  get version(): number {
    return this.#version;
  }

  /** A sandboxer may be there; it has not answered yet. */
  add(address: string, nowMs: number): void {
    if (this.#sandboxers.has(address)) return;
    this.#sandboxers.set(address, new SandboxerState(address, nowMs));
    this.#version++;
  }

  /**
   * It has answered.
   *
   * @param address Its socket.
   * @param info What it said.
   * @param callMs How long the answer took, in milliseconds.
   * @param nowMs The time.
   */
  answered(address: string, info: InfoResponse, callMs: number, nowMs: number): void {
    const sandboxer = this.#get(address, nowMs);
    if (sandboxer.state !== "up") {
      sandboxer.state = "up";
      sandboxer.sinceMs = info.startedAt === undefined ? nowMs : timestampMs(info.startedAt);
      sandboxer.startsOver = true;
    }
    Object.assign(sandboxer, { kind: info.kind, version: info.version, problem: "", callMs });
    this.#version++;
  }

  /** It does not answer any more, or not yet. What is known of its pods is kept, and shown as old. */
  lost(address: string, problem: string, nowMs: number): void {
    const sandboxer = this.#get(address, nowMs);
    if (sandboxer.state !== "gone") sandboxer.sinceMs = nowMs;
    Object.assign(sandboxer, { state: "gone", problem, callMs: undefined, startsOver: true });
    sandboxer.usage.clear();
    this.#version++;
  }

  /** A message of its Watch. */
  watched(address: string, message: WatchResponse, nowMs: number): void {
    const sandboxer = this.#get(address, nowMs);
    const { pods, usage } = sandboxer;
    if (sandboxer.startsOver) pods.clear();
    sandboxer.startsOver = false;
    for (const sandbox of message.sandboxes) pods.set(sandbox.id, sandbox);
    for (const id of message.removedIds) {
      pods.delete(id);
      usage.forget(id);
    }
    this.#version++;
  }

  /** A message of its Stats. */
  measured(address: string, message: StatsResponse, nowMs: number): void {
    const sandboxer = this.#get(address, nowMs);
    const { usage } = sandboxer;
    sandboxer.measurements++;
    for (const { sandboxId, usage: pod, containers } of message.sandboxes) {
      if (pod !== undefined) usage.measured(sandboxId, "", pod, nowMs);
      for (const { containerId, usage: container } of containers) {
        if (container !== undefined) usage.measured(sandboxId, containerId, container, nowMs);
      }
    }
    this.#version++;
  }

  /** One of its events. */
  happened(address: string, event: Event, nowMs: number): void {
    const sandboxer = this.#get(address, nowMs);
    const atMs = event.at === undefined ? nowMs : timestampMs(event.at);
    sandboxer.lastEventMs = atMs;
    countStart(sandboxer, event, atMs);
    // Sandboxers tell at different times what happened before: what came last may be older.
    const later = this.#events.findLastIndex((row) => row.atMs <= atMs) + 1;
    this.#events.splice(later, 0, eventRow(sandboxer.kind, event, atMs));
    if (this.#events.length > EVENTS_MAX) {
      this.#events.splice(0, this.#events.length - EVENTS_MAX);
    }
    this.#version++;
  }

  /** Whether every sandboxer is gone, or has told its pods and measured them twice. */
  isMeasured(): boolean {
    const sandboxers = [...this.#sandboxers.values()];
    return sandboxers.length > 0 &&
      sandboxers.every(({ state, measurements, startsOver }) =>
        state === "gone" || (!startsOver && measurements >= 2)
      );
  }

  /** All sandboxers, by kind. */
  sandboxers(nowMs: number): SandboxerRow[] {
    return [...this.#sandboxers.values()]
      .map((sandboxer) => sandboxerRow(sandboxer, nowMs))
      .sort((a, b) => compare(a.kind, b.kind) || compare(a.address, b.address));
  }

  /** All pods of all sandboxers, in no order. */
  pods(): PodRow[] {
    return [...this.#sandboxers.values()].flatMap(({ address, kind, state, pods, usage }) =>
      [...pods.values()].map((sandbox) =>
        podRow(sandbox, { address, kind, stale: state === "gone" }, usage)
      )
    );
  }

  /**
   * What happened, the oldest first.
   *
   * @param sandboxId Only of this sandbox; all where missing.
   */
  events(sandboxId?: string): readonly EventRow[] {
    if (sandboxId === undefined) return this.#events;
    return this.#events.filter((event) => event.sandboxId === sandboxId);
  }

  /** When the last event of a sandboxer was, in milliseconds since the epoch, if there was one. */
  lastEventMs(address: string): number | undefined {
    return this.#sandboxers.get(address)?.lastEventMs;
  }

  #get(address: string, nowMs: number): SandboxerState {
    const known = this.#sandboxers.get(address);
    if (known !== undefined) return known;
    const added = new SandboxerState(address, nowMs);
    this.#sandboxers.set(address, added);
    return added;
  }
}

/** Orders texts. */
function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Lets an event count where it is about a start. */
function countStart({ podStarts, containerStarts }: SandboxerState, event: Event, atMs: number) {
  const { type, sandboxId, containerId, execId } = event;
  if (type === "sandbox-created") podStarts.begin(sandboxId, atMs);
  else if (type === "sandbox-started") podStarts.end(sandboxId, atMs);
  else if (type === "sandbox-deleted") podStarts.forget(sandboxId);
  else if (execId !== "") return;
  else if (type === "container-created") containerStarts.begin(`${sandboxId}/${containerId}`, atMs);
  else if (type === "process-started") containerStarts.end(`${sandboxId}/${containerId}`, atMs);
  else if (type === "process-deleted") containerStarts.forget(`${sandboxId}/${containerId}`);
}

function eventRow(kind: string, event: Event, atMs: number): EventRow {
  const { type, sandboxId, containerId, execId, exit, message, lostBefore } = event;
  const details = [
    ...(execId === "" ? [] : [`exec ${execId}`]),
    ...(exit === undefined ? [] : [`${exit.reason || "exited"} ${exit.status}`]),
    ...(exit === undefined || exit.message === "" ? [] : [exit.message]),
    ...(message === "" ? [] : [message]),
    ...(lostBefore === 0n ? [] : [`(${lostBefore} events before it were lost)`]),
  ];
  return { atMs, kind, type, sandboxId, containerId, detail: details.join(", ") };
}

function sandboxerRow(sandboxer: SandboxerState, nowMs: number): SandboxerRow {
  const { address, kind, version, state, sinceMs, problem, callMs, pods, usage } = sandboxer;
  const sandboxes = [...pods.values()];
  const isUp = state === "up";
  const { cpus, memoryBytes } = usage.total(sandboxes.map(({ id }) => id));
  return {
    ...{ address, kind, version, state, sinceMs, problem, callMs },
    pods: sandboxes.length,
    containers: sandboxes.reduce((sum, { containers }) => sum + containers.length, 0),
    cpus: isUp ? cpus : undefined,
    memoryBytes: isUp ? memoryBytes : undefined,
    startsPerSecond: sandboxer.podStarts.perSecond(nowMs) +
      sandboxer.containerStarts.perSecond(nowMs),
    podStart: sandboxer.podStarts.quantiles(nowMs),
    containerStart: sandboxer.containerStarts.quantiles(nowMs),
  };
}
