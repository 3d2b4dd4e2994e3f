/**
 * What a lifecycle holds and what happens in it, as metrics: how many of everything in which state,
 * how processes ended, and, where it is wanted, what each pod uses.
 *
 * @module
 */

import type { LifecycleEvent } from "../lifecycle/events.ts";
import type { RecoverySummary, Sandboxer } from "../lifecycle/sandboxer.ts";
import type { Stats } from "../lifecycle/spec.ts";
import type { SandboxView } from "../lifecycle/view.ts";
import type { Meter } from "./meter.ts";
import type { Registry, Sample } from "./registry.ts";

/** The states of sandboxes. */
const SANDBOX_STATES = ["created", "starting", "ready", "stopping", "stopped", "failed"] as const;
/** The states of containers; those that are being made have none yet. */
const CONTAINER_STATES = ["creating", "created", "running", "paused", "stopped"] as const;
/** The states of execs. */
const EXEC_STATES = ["created", "running", "paused", "stopped"] as const;

/** How long all pods may take to say what they use, in milliseconds. */
const PODS_MS = 2_000;

/** The label in which kubelet names a pod's namespace. */
const KUBERNETES_NAMESPACE = "io.kubernetes.pod.namespace";

/** What is measured of a lifecycle. */
export interface LifecycleMetricsOptions {
  /** The lifecycle. */
  readonly sandboxer: Sandboxer;
  /** Counts and measures. */
  readonly meter: Meter;
  /** Most pods with metrics of their own; 0 for none. */
  readonly podsMax: number;
}

/**
 * Has a lifecycle's metrics read with the others.
 *
 * @param options See {@link LifecycleMetricsOptions}.
 * @returns Stops counting what happens.
 */
export function lifecycleMetrics(
  { sandboxer, meter, podsMax }: LifecycleMetricsOptions,
): Disposable {
  meter.onRead((registry) => readCounts(sandboxer, registry));
  if (podsMax > 0) meter.onRead((registry) => readPods(sandboxer, registry, podsMax));
  return sandboxer.subscribe((event) => countEvent(meter, event));
}

/**
 * Takes note of what the process before this one left.
 *
 * @param meter Counts and measures.
 * @param summary What was found.
 * @param seconds How long that took.
 */
export function recoveryMetrics(meter: Meter, summary: RecoverySummary, seconds: number): void {
  meter.onRead((registry) => {
    registry.set("quasaur_recovery_seconds", {}, seconds);
    for (const [outcome, value] of Object.entries(summary)) {
      if (typeof value === "number") {
        registry.set("quasaur_recovery_sandboxes", { outcome }, value);
      }
    }
  });
}

function countEvent(meter: Meter, event: LifecycleEvent): void {
  if (event.kind === "process-exited") {
    meter.count("quasaur_exits_total", { reason: event.exit.reason });
  } else if (event.kind === "container-oom") meter.count("quasaur_container_ooms_total", {});
}

function readCounts(sandboxer: Sandboxer, registry: Registry): void {
  const counts = sandboxer.counts();
  const sandboxes = new Tally(SANDBOX_STATES);
  const containers = new Tally(CONTAINER_STATES);
  const execs = new Tally(EXEC_STATES);
  containers.add("creating", counts.creating);
  for (const sandbox of sandboxer.sandboxes()) {
    sandboxes.add(sandbox.state);
    for (const id of sandbox.containerIds) {
      const { state, execIds } = sandboxer.container(id);
      containers.add(state);
      for (const execId of execIds) execs.add(sandboxer.process(id, execId).state);
    }
  }
  registry.replace("quasaur_sandboxes", sandboxes.samples());
  registry.replace("quasaur_containers", containers.samples());
  registry.replace("quasaur_execs", execs.samples());
  registry.set("quasaur_waiters", {}, counts.waiters);
  registry.set("quasaur_operations_pending", {}, counts.operations);
  registry.set("quasaur_state_unwritten", {}, counts.unwritten);
}

/** Counts by state; a state that nothing is in counts 0. */
class Tally {
  readonly #counts: Map<string, number>;

  constructor(states: readonly string[]) {
    this.#counts = new Map(states.map((state) => [state, 0]));
  }

  add(state: string, by = 1): void {
    this.#counts.set(state, (this.#counts.get(state) ?? 0) + by);
  }

  *samples(): Iterable<{ readonly labels: { readonly state: string }; readonly value: number }> {
    for (const [state, value] of this.#counts) yield { labels: { state }, value };
  }
}

/** A pod's labels. */
interface PodLabels {
  readonly namespace: string;
  readonly pod: string;
  readonly sandbox: string;
}

async function readPods(sandboxer: Sandboxer, registry: Registry, podsMax: number): Promise<void> {
  const ready = sandboxer.sandboxes().filter(({ state }) => state === "ready");
  const measured = await Promise.all(
    ready.slice(0, podsMax).map((pod) => statsInTime(sandboxer, pod)),
  );
  const cpu: Sample<"quasaur_pod_cpu_seconds_total">[] = [];
  const memory: Sample<"quasaur_pod_memory_bytes">[] = [];
  const processes: Sample<"quasaur_pod_processes">[] = [];
  for (const one of measured) {
    if (one === undefined) continue;
    const { labels, stats } = one;
    cpu.push({ labels, value: stats.cpuNs / 1e9 });
    memory.push({ labels, value: stats.memoryBytes });
    processes.push({ labels, value: stats.pids });
  }
  registry.replace("quasaur_pod_cpu_seconds_total", cpu);
  registry.replace("quasaur_pod_memory_bytes", memory);
  registry.replace("quasaur_pod_processes", processes);
  registry.set("quasaur_pods_left_out", {}, ready.length - cpu.length);
}

/** What a pod uses; undefined where it does not say so in time. */
async function statsInTime(
  sandboxer: Sandboxer,
  { spec }: SandboxView,
): Promise<{ readonly labels: PodLabels; readonly stats: Stats } | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), PODS_MS);
  try {
    const stats = await Promise.race([sandboxer.sandboxStats(spec.id), late]);
    const namespace = spec.labels[KUBERNETES_NAMESPACE] ?? spec.namespace;
    const labels = { namespace, pod: spec.name, sandbox: spec.id };
    return stats === undefined ? undefined : { labels, stats };
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
