/**
 * What sandboxes and containers use, measured for all who ask at once: those who ask for the same
 * sandbox while it is being measured share the answer, and only so many are measured at a time.
 *
 * @module
 */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type {
  ContainerStatsSchema,
  SandboxStatsSchema,
  UsageSchema,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { Sandboxer } from "../lifecycle/sandboxer.ts";
import { sleep } from "../lifecycle/signals.ts";
import type { Stats } from "../lifecycle/spec.ts";

/** What a sandbox uses, as it is sent. */
export type SandboxStatsMessage = MessageInitShape<typeof SandboxStatsSchema>;

/** What a container uses, as it is sent. */
type ContainerStatsMessage = MessageInitShape<typeof ContainerStatsSchema>;

/** The shortest time between two measurements of a stream, in milliseconds. */
export const INTERVAL_MS_MIN = 100;

/** The longest one, in milliseconds. */
export const INTERVAL_MS_MAX = 3_600_000;

/** Sandboxes that are measured at a time, for all callers together. */
const CONCURRENCY_MAX = 8;

/** How long a sandbox may take to say what it uses, in milliseconds; then it is left out. */
const MEASURE_MS_MAX = 5000;

/** Which measurements are wanted. */
export interface StatsWanted {
  /** Only of these; empty for all that run. */
  readonly sandboxIds: readonly string[];
  /** How often, in milliseconds; missing for once. */
  readonly intervalMs?: number;
}

/** Measures the sandboxes of one sandboxer. */
export class StatsSampler {
  readonly #sandboxer: Sandboxer;
  readonly #measureMsMax: number;
  readonly #measuring = new Map<string, Promise<SandboxStatsMessage>>();
  readonly #waiting: (() => void)[] = [];
  #free = CONCURRENCY_MAX;

  /**
   * Nothing is measured yet.
   *
   * @param sandboxer Whose sandboxes.
   * @param measureMsMax How long a sandbox may take to say what it uses, in milliseconds.
   */
  constructor(sandboxer: Sandboxer, measureMsMax: number = MEASURE_MS_MAX) {
    this.#sandboxer = sandboxer;
    this.#measureMsMax = measureMsMax;
  }

  /**
   * Measurements as they are wanted: one, or one after each interval.
   *
   * @param wanted Which ones.
   * @param signal Ends it.
   * @throws {SandboxError} `InvalidArgument` for an interval out of range; `NotFound` for a sandbox
   *   that is not there.
   */
  async *follow(
    { sandboxIds, intervalMs }: StatsWanted,
    signal: AbortSignal,
  ): AsyncGenerator<SandboxStatsMessage[]> {
    checkInterval(intervalMs);
    for (;;) {
      const began = performance.now();
      for (const id of sandboxIds) this.#sandboxer.sandbox(id);
      const ids = sandboxIds.length > 0 ? sandboxIds : this.#ready();
      yield await Promise.all(ids.map((id) => this.#measured(id)));
      if (intervalMs === undefined) return;
      await sleep(Math.max(0, began + intervalMs - performance.now()), signal);
      throwIfAborted(signal, "cannot measure any longer");
    }
  }

  #ready(): string[] {
    return this.#sandboxer.sandboxes().filter(({ state }) => state === "ready")
      .map(({ spec }) => spec.id);
  }

  /**
   * What a sandbox uses; without figures where it takes too long. It is not asked again before it has
   * answered.
   */
  #measured(id: string): Promise<SandboxStatsMessage> {
    const known = this.#measuring.get(id);
    if (known !== undefined) return known;
    const measuring = this.#measure(id);
    this.#measuring.set(id, measuring);
    return measuring;
  }

  async #measure(id: string): Promise<SandboxStatsMessage> {
    await this.#slot();
    try {
      const measuring = measure(this.#sandboxer, id);
      void measuring.finally(() => this.#measuring.delete(id));
      return await this.#inTime(id, measuring);
    } finally {
      this.#release();
    }
  }

  async #inTime(
    id: string,
    measuring: Promise<SandboxStatsMessage>,
  ): Promise<SandboxStatsMessage> {
    const { promise, resolve } = Promise.withResolvers<SandboxStatsMessage>();
    const timer = setTimeout(() => resolve({ sandboxId: id }), this.#measureMsMax);
    try {
      return await Promise.race([measuring, promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until one more may be measured. */
  async #slot(): Promise<void> {
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free += 1;
    else next();
  }
}

function checkInterval(intervalMs: number | undefined): void {
  if (intervalMs === undefined) return;
  if (intervalMs >= INTERVAL_MS_MIN && intervalMs <= INTERVAL_MS_MAX) return;
  throw new SandboxError(
    "InvalidArgument",
    `cannot measure every ${intervalMs} ms: expected ${INTERVAL_MS_MIN} to ${INTERVAL_MS_MAX}`,
  );
}

/** What a sandbox and its containers use; without what cannot be measured now. */
async function measure(sandboxer: Sandboxer, id: string): Promise<SandboxStatsMessage> {
  const [usage, containers] = await Promise.all([
    orNothing(() => sandboxer.sandboxStats(id)),
    Promise.all(containerIds(sandboxer, id).map((each) => containerStats(sandboxer, each))),
  ]);
  return {
    sandboxId: id,
    ...(usage === undefined ? {} : { usage: usageMessage(usage) }),
    containers: containers.filter((each) => each !== undefined),
  };
}

function containerIds(sandboxer: Sandboxer, id: string): readonly string[] {
  try {
    return sandboxer.sandbox(id).containerIds;
  } catch {
    return []; // Deleted since it was asked for.
  }
}

async function containerStats(
  sandboxer: Sandboxer,
  containerId: string,
): Promise<ContainerStatsMessage | undefined> {
  const usage = await orNothing(() => sandboxer.containerStats(containerId));
  return usage === undefined ? undefined : { containerId, usage: usageMessage(usage) };
}

/** What is between two states, or gone, uses nothing that could be told. */
async function orNothing(stats: () => Promise<Stats>): Promise<Stats | undefined> {
  try {
    return await stats();
  } catch {
    return undefined;
  }
}

function usageMessage(stats: Stats): MessageInitShape<typeof UsageSchema> {
  return {
    at: timestampFromMs(stats.at),
    cpuNs: whole(stats.cpuNs),
    memoryBytes: whole(stats.memoryBytes),
    memoryLimitBytes: whole(stats.memoryLimitBytes ?? 0),
    pids: stats.pids,
  };
}

function whole(value: number): bigint {
  return Number.isFinite(value) ? BigInt(Math.max(0, Math.trunc(value))) : 0n;
}
