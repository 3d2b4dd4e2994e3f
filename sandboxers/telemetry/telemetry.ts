/**
 * The telemetry of a sandboxer process: hears of calls, operations and phases, and makes metrics and
 * traces of them. Where both are off nobody hears anything, and nothing is paid.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Observer, Operation, OperationName } from "../lifecycle/observer.ts";
import type { LabelsOf, MetricNameOf } from "./definitions.ts";
import type { LogFields } from "../log.ts";
import {
  type FindOutput,
  type FirstOutput,
  FirstOutputs,
  type ModifiedAt,
} from "./first_output.ts";
import { withLogIds } from "./log_ids.ts";
import { type Collector, type Meter, noMeter } from "./meter.ts";
import { Registry } from "./registry.ts";
import { type Eventually, isWaiting, type RpcCall, type RpcObserver } from "./rpc_call.ts";

/** What hears of everything in a sandboxer. */
export interface Telemetry extends Observer, Meter, RpcObserver {
  /**
   * Takes note of a call that was answered without {@link RpcObserver.rpc}.
   *
   * @param call Which one.
   * @param code `OK`, or that of its error.
   * @param ms How long it took, in milliseconds.
   */
  answered(call: Pick<RpcCall, "service" | "method">, code: string, ms: number): void;
  /**
   * For kinds that may not read what containerd has made: has outputs looked at in another way.
   *
   * @param modifiedAt Says when a file was changed last.
   */
  readOutputsWith(modifiedAt: ModifiedAt): void;
}

/** Telemetry that is off: only records of the log know what they belong to. */
export const noTelemetry: Telemetry = {
  ...noMeter,
  operation: withLogIds,
  phase: () => undefined,
  rpc: (_call, run) => run(),
  answered: () => undefined,
  readOutputsWith: () => undefined,
};

/** What makes traces; see `tracing.ts`. */
export interface Tracing {
  /** See {@link RpcObserver.rpc}. */
  rpc<T>(call: RpcCall, run: () => Eventually<T>): Eventually<T>;
  /** See {@link Observer.operation}. */
  operation<T>(operation: Operation, run: () => Promise<T>): Promise<T>;
  /** See {@link Observer.phase}; times in milliseconds since the epoch. */
  phase(name: string, since: number, until: number): void;
  /** The first output of a container was seen. */
  firstOutput(output: FirstOutput): void;
  /** What a record of the log says of the trace that it belongs to. */
  logFields(): LogFields | undefined;
}

/** What {@link LiveTelemetry} works with. */
export interface TelemetryOptions {
  /** The kind of sandboxer. */
  readonly kind: string;
  /** Makes traces; missing where they are off. */
  readonly tracing?: Tracing | undefined;
}

/** Telemetry that is on. */
export class LiveTelemetry implements Telemetry {
  readonly #registry: Registry;
  readonly #tracing: Tracing | undefined;
  readonly #collectors: Collector[] = [];
  readonly #open = new Map<string, number>();
  #outputs: FirstOutputs | undefined;
  #modifiedAt: ModifiedAt | undefined;

  /**
   * Begins to hear.
   *
   * @param options See {@link TelemetryOptions}.
   */
  constructor({ kind, tracing }: TelemetryOptions) {
    this.#registry = new Registry({ kind });
    this.#tracing = tracing;
    for (const reason of ["exited", "signaled", "trap", "oom", "lost"]) {
      this.#registry.add("quasaur_exits_total", { reason }, 0);
    }
    this.#registry.add("quasaur_container_ooms_total", {}, 0);
  }

  /** See {@link RpcObserver.rpc}. */
  rpc<T>(call: RpcCall, run: () => Eventually<T>): Eventually<T> {
    const since = performance.now();
    const { service } = call;
    this.#open.set(service, (this.#open.get(service) ?? 0) + 1);
    try {
      const tracing = this.#tracing;
      const answer = tracing === undefined ? run() : tracing.rpc(call, run);
      if (!(answer instanceof Promise)) {
        this.#ended(call, "OK", since);
        return answer;
      }
      return answer.then((value) => {
        this.#ended(call, "OK", since);
        return value;
      }, (error: unknown) => {
        this.#ended(call, codeOf(error), since);
        throw error;
      });
    } catch (error) {
      this.#ended(call, codeOf(error), since);
      throw error;
    }
  }

  #ended(call: RpcCall, code: string, since: number): void {
    this.#open.set(call.service, (this.#open.get(call.service) ?? 1) - 1);
    this.answered(call, code, performance.now() - since);
  }

  /** See {@link Telemetry.answered}. */
  answered(call: Pick<RpcCall, "service" | "method">, code: string, ms: number): void {
    const { service, method } = call;
    this.#registry.add("quasaur_rpcs_total", { service, method, code });
    if (isWaiting(call)) return;
    this.#registry.observe("quasaur_rpc_duration_seconds", { service, method }, ms / 1000);
  }

  /** See {@link Observer.operation}. */
  async operation<T>(operation: Operation, run: () => Promise<T>): Promise<T> {
    const { name, containerId } = operation;
    const look = name === "container_start" && containerId !== undefined
      ? this.#outputs?.begin(containerId)
      : undefined;
    const since = performance.now();
    try {
      const value = await withLogIds(
        operation,
        () => this.#tracing?.operation(operation, run) ?? run(),
      );
      const seconds = (performance.now() - since) / 1000;
      this.#registry.add("quasaur_operations_total", { operation: name, code: "OK" });
      this.#registry.observe("quasaur_operation_duration_seconds", { operation: name }, seconds);
      look?.();
      return value;
    } catch (error) {
      this.#registry.add("quasaur_operations_total", { operation: name, code: codeOf(error) });
      throw error;
    }
  }

  /** See {@link Observer.phase}. */
  phase(
    operation: OperationName,
    phase: string,
    sinceMs: number,
    untilMs: number = performance.now(),
  ): void {
    const seconds = (untilMs - sinceMs) / 1000;
    this.measure("quasaur_operation_phase_duration_seconds", { operation, phase }, seconds);
    const { timeOrigin } = performance;
    this.#tracing?.phase(phase, timeOrigin + sinceMs, timeOrigin + untilMs);
  }

  /** See {@link Telemetry.readOutputsWith}. */
  readOutputsWith(modifiedAt: ModifiedAt): void {
    this.#modifiedAt = modifiedAt;
  }

  /**
   * Has the outputs of containers looked at from now on.
   *
   * @param find Says where an output goes.
   * @returns Looks no more.
   */
  watchOutputs(find: FindOutput): Disposable {
    const heard = (output: FirstOutput) => this.#firstOutput(output);
    this.#outputs = new FirstOutputs(find, heard, this.#modifiedAt);
    return this.#outputs;
  }

  #firstOutput(output: FirstOutput): void {
    const seconds = Math.max(0, output.at - output.startedAtMs) / 1000;
    this.measure("quasaur_first_output_seconds", {}, seconds);
    this.#tracing?.firstOutput(output);
  }

  /** See {@link Meter.count}. */
  count<N extends MetricNameOf<"counter">>(name: N, labels: LabelsOf<N>, by = 1): void {
    this.#registry.add(name, labels, by);
  }

  /** See {@link Meter.measure}. */
  measure<N extends MetricNameOf<"histogram">>(name: N, labels: LabelsOf<N>, value: number): void {
    this.#registry.observe(name, labels, value);
  }

  /** See {@link Meter.onRead}. */
  onRead(collector: Collector): void {
    this.#collectors.push(collector);
  }

  /**
   * Brings everything up to date.
   *
   * @returns All metrics in Prometheus' text format.
   */
  async text(): Promise<string> {
    const registry = this.#registry;
    registry.add("quasaur_scrapes_total", {});
    for (const [service, value] of this.#open) {
      registry.set("quasaur_rpcs_open", { service }, value);
    }
    for (const collector of this.#collectors) await collector(registry);
    return registry.text();
  }
}

function codeOf(error: unknown): string {
  return SandboxError.from(error).code;
}
