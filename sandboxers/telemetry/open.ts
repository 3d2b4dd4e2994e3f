/**
 * Switches telemetry on for a sandboxer process: traces where Deno's exporter is on, metrics where
 * there is an address for them. Where neither is, nothing of either is loaded or kept.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer } from "../lifecycle/sandboxer.ts";
import type { Log, RootLog } from "../log.ts";
import type { MetricsAddress } from "./address.ts";
import { outputsOf } from "./first_output.ts";
import { logIds } from "./log_ids.ts";
import { lifecycleMetrics } from "./lifecycle_metrics.ts";
import { MetricsServer } from "./metrics_server.ts";
import { processMetrics } from "./process_metrics.ts";
import { LiveTelemetry, noTelemetry, type Telemetry, type Tracing } from "./telemetry.ts";

/** Where OpenTelemetry's API keeps who makes traces; Deno puts itself there where `OTEL_DENO` is on. */
const OTEL_GLOBAL = Symbol.for("opentelemetry.js.api.1");

/** What {@link openTelemetry} decides by. */
export interface OpenOptions {
  /** The kind of sandboxer. */
  readonly kind: string;
  /** Where metrics are read; undefined where they are off. */
  readonly metrics: MetricsAddress | undefined;
  /** The log of the process: its records say which trace they belong to. */
  readonly log: RootLog;
}

/**
 * Switches telemetry on as far as it is wanted.
 *
 * @param options See {@link OpenOptions}.
 */
export async function openTelemetry({ kind, metrics, log }: OpenOptions): Promise<Telemetry> {
  const tracing = isTracing() ? await openTracing(kind, log) : undefined;
  log.context = () => ({ ...logIds(), ...tracing?.logFields() });
  if (metrics === undefined && tracing === undefined) return noTelemetry;
  return new LiveTelemetry({ kind, tracing });
}

/** Whether Deno's exporter was switched on when this process was started. */
export function isTracing(): boolean {
  return Reflect.get(globalThis, OTEL_GLOBAL) !== undefined;
}

async function openTracing(kind: string, log: RootLog): Promise<Tracing> {
  const { OtelTracing } = await import("./tracing.ts");
  log.info("traces are on");
  return new OtelTracing(kind);
}

/** What telemetry is about once there is a lifecycle. */
export interface WatchOptions {
  /** What {@link openTelemetry} has given. */
  readonly telemetry: Telemetry;
  /** The lifecycle. */
  readonly sandboxer: Sandboxer;
  /** Where metrics are read; undefined where they are off. */
  readonly metrics: MetricsAddress | undefined;
  /** Most pods with metrics of their own. */
  readonly podsMax: number;
  /** Where notes go. */
  readonly log: Log;
}

/**
 * Begins to watch a lifecycle and to serve metrics. A socket that cannot be had is told in the log
 * and no reason not to run pods.
 *
 * @param options See {@link WatchOptions}.
 * @returns Ends it.
 */
export async function watchLifecycle(options: WatchOptions): Promise<AsyncDisposable> {
  const { telemetry, sandboxer, metrics, podsMax, log } = options;
  await using resources = new AsyncDisposableStack();
  if (telemetry instanceof LiveTelemetry) {
    resources.use(lifecycleMetrics({ sandboxer, meter: telemetry, podsMax }));
    resources.use(processMetrics(telemetry));
    resources.use(telemetry.watchOutputs(outputsOf(sandboxer)));
    if (metrics !== undefined) await serveMetrics(telemetry, metrics, log, resources);
  }
  return resources.move();
}

async function serveMetrics(
  telemetry: LiveTelemetry,
  address: MetricsAddress,
  log: Log,
  resources: AsyncDisposableStack,
): Promise<void> {
  try {
    const collect = () => telemetry.text();
    resources.use(await MetricsServer.listen({ address, collect, log }));
  } catch (error) {
    log.error("there are no metrics", { error: SandboxError.from(error) });
  }
}
