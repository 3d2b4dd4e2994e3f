/**
 * Every metric that a sandboxer has, in one table: the registry takes names, types and buckets from
 * it, and docs/metrics.md is made of it. Names follow Prometheus' conventions: a prefix, base units,
 * `_total` for counters.
 *
 * @module
 */

/** How a metric is read. */
export type MetricType = "counter" | "gauge" | "histogram";

/** The kinds of sandboxer. */
export type MetricKind = "wasm" | "vmm" | "quark";

/** A metric. */
export interface MetricDefinition {
  /** Counter, gauge or histogram. */
  readonly type: MetricType;
  /** What it says, one sentence without a full stop. */
  readonly help: string;
  /** The names of its labels, beside `kind`, which every metric of ours has. */
  readonly labels: readonly string[];
  /** The kinds that have it; missing for all. */
  readonly kinds?: readonly MetricKind[];
  /** For a histogram: the upper bounds of its buckets, in its unit. */
  readonly buckets?: readonly number[];
}

/** From half a millisecond to a minute, about three to each decade. */
const SECONDS = [
  ...[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5],
  ...[1, 2.5, 5, 10, 30, 60],
] as const;

/** For the delay of the event loop, which is best below a few milliseconds. */
const DELAY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1] as const;

/** The table, in the order in which metrics are written. */
export const METRICS = {
  quasaur_build_info: {
    type: "gauge",
    help: "Always 1; its labels say what runs",
    labels: ["version", "deno", "v8"],
  },
  quasaur_sandboxes: {
    type: "gauge",
    help: "Sandboxes by state: created, starting, ready, stopping, stopped or failed",
    labels: ["state"],
  },
  quasaur_containers: {
    type: "gauge",
    help: "Containers by state: creating, created, running, paused or stopped",
    labels: ["state"],
  },
  quasaur_execs: {
    type: "gauge",
    help: "Execs that were not deleted, by state: created, running or stopped",
    labels: ["state"],
  },
  quasaur_operations_total: {
    type: "counter",
    help:
      "What was done to sandboxes, containers and execs, by operation and by the code it ended " +
      'with: "OK" or that of the error',
    labels: ["operation", "code"],
  },
  quasaur_operation_duration_seconds: {
    type: "histogram",
    help: "How long operations took that succeeded",
    labels: ["operation"],
    buckets: SECONDS,
  },
  quasaur_operation_phase_duration_seconds: {
    type: "histogram",
    help: "How long the phases of operations took; see below for the phases of each kind",
    labels: ["operation", "phase"],
    buckets: SECONDS,
  },
  quasaur_first_output_seconds: {
    type: "histogram",
    help: "From the call that starts a container until its first byte is in its output",
    labels: [],
    buckets: SECONDS,
  },
  quasaur_exits_total: {
    type: "counter",
    help: "Processes that have ended, by reason: exited, signaled, trap, oom or lost",
    labels: ["reason"],
  },
  quasaur_container_ooms_total: {
    type: "counter",
    help: "Containers in which something was killed for want of memory",
    labels: [],
  },
  quasaur_rpcs_total: {
    type: "counter",
    help: 'Calls that were answered, by service, method and code: "OK" or that of the error',
    labels: ["service", "method", "code"],
  },
  quasaur_rpc_duration_seconds: {
    type: "histogram",
    help: "How long calls took, but for those that wait for something to happen",
    labels: ["service", "method"],
    buckets: SECONDS,
  },
  quasaur_rpcs_open: {
    type: "gauge",
    help: "Calls that wait for their answer",
    labels: ["service"],
  },
  quasaur_waiters: {
    type: "gauge",
    help: "Callers that wait for the end of a sandbox or a process",
    labels: [],
  },
  quasaur_operations_pending: {
    type: "gauge",
    help: "State changes that run or wait for their turn",
    labels: [],
  },
  quasaur_state_unwritten: {
    type: "gauge",
    help: "Sandboxes that are not on disk as they are in memory",
    labels: [],
  },
  quasaur_recovery_sandboxes: {
    type: "gauge",
    help: "Sandboxes of the process before this one: adopted, stopped or removed",
    labels: ["outcome"],
  },
  quasaur_recovery_seconds: {
    type: "gauge",
    help: "How long taking over from the process before this one took",
    labels: [],
  },
  quasaur_event_loop_delay_seconds: {
    type: "histogram",
    help: "How late the event loop was, looked at four times a second while somebody scrapes",
    labels: [],
    buckets: DELAY_SECONDS,
  },
  quasaur_heap_used_bytes: {
    type: "gauge",
    help: "What is used of V8's heap",
    labels: [],
  },
  quasaur_heap_size_bytes: {
    type: "gauge",
    help: "The size of V8's heap",
    labels: [],
  },
  quasaur_external_memory_bytes: {
    type: "gauge",
    help: "Memory outside of V8's heap that belongs to objects in it",
    labels: [],
  },
  quasaur_garbage_collections_total: {
    type: "counter",
    help: "Collections of the whole heap that were noticed since metrics were first read",
    labels: [],
  },
  quasaur_scrapes_total: {
    type: "counter",
    help: "How often metrics were read",
    labels: [],
  },
  quasaur_pod_cpu_seconds_total: {
    type: "counter",
    help: "CPU time of a pod; only with --metrics-pods",
    labels: ["namespace", "pod", "sandbox"],
  },
  quasaur_pod_memory_bytes: {
    type: "gauge",
    help: "Memory of a pod; only with --metrics-pods",
    labels: ["namespace", "pod", "sandbox"],
  },
  quasaur_pod_processes: {
    type: "gauge",
    help: "Processes, or threads, of a pod; only with --metrics-pods",
    labels: ["namespace", "pod", "sandbox"],
  },
  quasaur_pods_left_out: {
    type: "gauge",
    help:
      "Pods without metrics of their own because --metrics-pods is too small, or because they " +
      "did not answer",
    labels: [],
  },
  quasaur_wasm_guests: {
    type: "gauge",
    help: "Guests that exist on threads of this process, running or not",
    labels: [],
    kinds: ["wasm"],
  },
  quasaur_wasm_module_requests_total: {
    type: "counter",
    help: "Modules that guests were made of, by where they were found: memory or file",
    labels: ["source"],
    kinds: ["wasm"],
  },
  quasaur_wasm_modules: {
    type: "gauge",
    help: "Modules in memory",
    labels: [],
    kinds: ["wasm"],
  },
  quasaur_wasm_module_bytes: {
    type: "gauge",
    help: "Size of the files of the modules in memory",
    labels: [],
    kinds: ["wasm"],
  },
  quasaur_wasm_compiled_requests_total: {
    type: "counter",
    help: "Looks for compiled code on disk, by result: hit or miss",
    labels: ["result"],
    kinds: ["wasm"],
  },
  quasaur_wasm_compiles_total: {
    type: "counter",
    help: "Modules that were compiled, by result: ok, failed, or dropped because " +
      "too many waited",
    labels: ["result"],
    kinds: ["wasm"],
  },
  quasaur_wasm_compile_seconds_total: {
    type: "counter",
    help: "Time that compiling modules took",
    labels: [],
    kinds: ["wasm"],
  },
  quasaur_vmm_machines_total: {
    type: "counter",
    help: "Machines that were started for pods, by origin: pool, clone or boot",
    labels: ["origin"],
    kinds: ["vmm"],
  },
  quasaur_vmm_pool_machines: {
    type: "gauge",
    help: "Machines that are kept ready",
    labels: [],
    kinds: ["vmm"],
  },
  quasaur_vmm_templates: {
    type: "gauge",
    help: "Templates that machines can be cloned from",
    labels: [],
    kinds: ["vmm"],
  },
  quasaur_vmm_template_builds_total: {
    type: "counter",
    help: "Templates that were made, by result: ok or failed",
    labels: ["result"],
    kinds: ["vmm"],
  },
  quasaur_quark_sandboxes_started_total: {
    type: "counter",
    help: "Sandboxes that were started, by application kernel: gvisor or quark",
    labels: ["kernel"],
    kinds: ["quark"],
  },
  process_cpu_seconds_total: {
    type: "counter",
    help: "CPU time of the sandboxer's process; guests on its threads included",
    labels: [],
  },
  process_resident_memory_bytes: {
    type: "gauge",
    help: "Resident memory of the sandboxer's process",
    labels: [],
  },
  process_start_time_seconds: {
    type: "gauge",
    help: "When the sandboxer's process began, in seconds since the epoch",
    labels: [],
  },
} as const satisfies Readonly<Record<string, MetricDefinition>>;

/** The name of a metric. */
export type MetricName = keyof typeof METRICS;

/** The names of the metrics of a type. */
export type MetricNameOf<T extends MetricType> = {
  readonly [N in MetricName]: typeof METRICS[N]["type"] extends T ? N : never;
}[MetricName];

/** The labels of a metric with their values. */
export type LabelsOf<N extends MetricName> = {
  readonly [L in typeof METRICS[N]["labels"][number]]: string;
};
