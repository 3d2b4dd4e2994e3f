/**
 * How much CPU and memory each pod and container uses: rates worked out of counters that only grow.
 *
 * @module
 */

import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { Usage } from "../../proto/gen/quasaur/management/v1/management_pb.ts";

/** What something uses now. */
export interface UsageNow {
  /** CPUs in use, such as 0.5; undefined after a single measurement. */
  readonly cpus: number | undefined;
  /** Memory in use, in bytes. */
  readonly memoryBytes: number;
  /** The most memory it may use, in bytes; undefined where it may use any. */
  readonly memoryLimitBytes: number | undefined;
  /** How many processes and threads there are. */
  readonly pids: number;
}

/** The last measurement. */
interface Measured {
  readonly atMs: number;
  readonly cpuNs: bigint;
  readonly now: UsageNow;
}

/** Two measurements closer than this give no rate, in milliseconds. */
const SPAN_MIN_MS = 20;

/** The usage of the pods of one sandboxer. */
export class UsageRates {
  /** By sandbox, then by container; the pod itself has an empty name. */
  readonly #measured = new Map<string, Map<string, Measured>>();

  /**
   * A measurement has come.
   *
   * @param sandboxId The pod.
   * @param containerId The container; empty for the pod as a whole.
   * @param usage What was measured.
   * @param nowMs When, in milliseconds since the epoch, where the measurement does not say.
   */
  measured(sandboxId: string, containerId: string, usage: Usage, nowMs: number): void {
    const ofPod = this.#measured.get(sandboxId) ?? new Map<string, Measured>();
    this.#measured.set(sandboxId, ofPod);
    const before = ofPod.get(containerId);
    const atMs = usage.at === undefined ? nowMs : timestampMs(usage.at);
    const { cpuNs, memoryBytes, memoryLimitBytes, pids } = usage;
    const spanMs = before === undefined ? 0 : atMs - before.atMs;
    // The first measurement stays the one to compare with while the second is too close to it.
    if (before !== undefined && spanMs < SPAN_MIN_MS) return;
    const cpus = before === undefined || cpuNs < before.cpuNs
      ? undefined
      : Number(cpuNs - before.cpuNs) / (spanMs * 1e6);
    const limit = memoryLimitBytes === 0n ? undefined : Number(memoryLimitBytes);
    const now = { cpus, memoryBytes: Number(memoryBytes), memoryLimitBytes: limit, pids };
    ofPod.set(containerId, { atMs, cpuNs, now });
  }

  /** What a container uses, or a pod as a whole where the name is empty. */
  get(sandboxId: string, containerId: string): UsageNow | undefined {
    return this.#measured.get(sandboxId)?.get(containerId)?.now;
  }

  /** What some pods use together; undefined where nothing is known of any. */
  total(sandboxIds: readonly string[]): {
    readonly cpus: number | undefined;
    readonly memoryBytes: number | undefined;
  } {
    let cpus: number | undefined;
    let memoryBytes: number | undefined;
    for (const id of sandboxIds) {
      const usage = this.get(id, "");
      if (usage === undefined) continue;
      memoryBytes = (memoryBytes ?? 0) + usage.memoryBytes;
      if (usage.cpus !== undefined) cpus = (cpus ?? 0) + usage.cpus;
    }
    return { cpus, memoryBytes };
  }

  /** A pod is gone. */
  forget(sandboxId: string): void {
    this.#measured.delete(sandboxId);
  }

  /** All are. */
  clear(): void {
    this.#measured.clear();
  }
}
