/**
 * What the calls of the management API do that show sandboxes or end them. Everything goes through the
 * verbs of the lifecycle; what is said of a pod is what the lifecycle knows.
 *
 * @module
 */

import { type Duration, durationMs, timestampMs } from "@bufbuild/protobuf/wkt";
import type {
  EventsRequest,
  GetRequest,
  KillRequest,
  ListRequest,
  PauseRequest,
  RemoveRequest,
  Resources,
  ResumeRequest,
  SetLogLevelRequest,
  StatsRequest,
  StopRequest,
  UpdateRequest,
  WaitRequest,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";
import type { ServiceCall } from "../../proto/grpc_service.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ResourceSpec } from "../lifecycle/spec.ts";
import type { SandboxView } from "../lifecycle/view.ts";
import type { EventHistory } from "./events.ts";
import { infoMessage, setLogLevel } from "./info.ts";
import { exitMessage, sandboxDetail, sandboxMessage } from "./messages.ts";
import { pagesOf } from "./pages.ts";
import { isManaged, type ManagementHandlers, type ManagementPorts, type Runs } from "./ports.ts";
import type { StatsSampler } from "./stats.ts";
import { lookUp, type TargetView } from "./target_views.ts";
import { containerOf, type Found } from "./targets.ts";
import type { SandboxWatch } from "./watch.ts";

/** How long processes may take to end after SIGTERM where the caller does not say, in milliseconds. */
const GRACE_MS = 10_000;

/** The longest grace, in milliseconds. */
const GRACE_MS_MAX = 86_400_000;

/** The period of a CPU quota, in microseconds: the kernel's own default. */
const CPU_PERIOD_US = 100_000;

/** What the handlers are made of. */
export interface HandlerParts {
  /** The lifecycle and the facts of the process. */
  readonly ports: ManagementPorts;
  /** Sandboxes that were made through this API. */
  readonly runs: Runs;
  /** The last events. */
  readonly events: EventHistory;
  /** Those who watch. */
  readonly watch: SandboxWatch;
  /** What measures. */
  readonly stats: StatsSampler;
  /** How many streams are open. */
  readonly streams: () => number;
}

/**
 * The handlers of all calls but those of `runs/`.
 *
 * @param parts See {@link HandlerParts}.
 */
export function viewHandlers(
  { ports, runs, events, watch, stats, streams }: HandlerParts,
): Omit<ManagementHandlers, keyof Runs["handlers"]> {
  const { sandboxer, log } = ports;
  const find = (target: string) => lookUp(sandboxer, target);
  return {
    // deno-lint-ignore require-await -- what goes wrong is to reject, not to throw
    info: async () => infoMessage(ports, streams()),
    // deno-lint-ignore require-await -- as above
    list: async (request) => list(ports, request),
    // deno-lint-ignore require-await -- as above
    get: async ({ target }: GetRequest) => {
      const { sandbox: { view }, container } = find(target);
      const detail = sandboxDetail(sandboxer, view, runs.detail(view.spec.id));
      return {
        sandbox: sandboxMessage(sandboxer, view),
        containerId: container?.id ?? "",
        detailJson: JSON.stringify(detail),
      };
    },
    watch: (_request, { signal }) => watch.follow(signal),
    events: ({ since, noFollow, sandboxId }: EventsRequest, { signal }: ServiceCall) =>
      events.follow({
        noFollow,
        sandboxId,
        ...(since === undefined ? {} : { sinceMs: timestampMs(since) }),
      }, signal),
    async *stats({ sandboxIds, interval }: StatsRequest, { signal }: ServiceCall) {
      const intervalMs = interval === undefined ? undefined : durationMs(interval);
      const wanted = { sandboxIds, ...(intervalMs === undefined ? {} : { intervalMs }) };
      for await (const sandboxes of stats.follow(wanted, signal)) yield { sandboxes };
    },
    async wait({ target }: WaitRequest, { signal }: ServiceCall) {
      const { id } = containerOf(find(target), "cannot wait for");
      return exitMessage(await sandboxer.waitProcess(id, "", signal));
    },
    async kill({ target, execId, signal, all }: KillRequest) {
      const { id } = containerOf(find(target), "cannot kill");
      await sandboxer.killProcess(id, execId, signal, all);
      return {};
    },
    async stop({ target, grace }: StopRequest, { signal }: ServiceCall) {
      const { spec } = sandboxOf(find(target), "stop");
      await sandboxer.stopSandbox(spec.id, graceMs(grace), signal);
      log.info("sandbox stopped by a caller", { sandbox: spec.id });
      return { sandboxId: spec.id };
    },
    async remove({ target, force }: RemoveRequest, { signal }: ServiceCall) {
      const { spec, state } = sandboxOf(find(target), "remove");
      const managed = isManaged(spec);
      if (!force) mustBeRemovable(spec.id, spec.name, state, managed);
      await sandboxer.deleteSandbox(spec.id, signal);
      if (managed) await runs.forget(spec.id);
      log.info("sandbox removed by a caller", { sandbox: spec.id, force });
      return { sandboxId: spec.id };
    },
    async pause({ target }: PauseRequest) {
      const ids = inState(ports, find(target), "running", "pause");
      for (const id of ids) await sandboxer.pauseContainer(id);
      return {};
    },
    async resume({ target }: ResumeRequest) {
      const ids = inState(ports, find(target), "paused", "resume");
      for (const id of ids) await sandboxer.resumeContainer(id);
      return {};
    },
    async update({ target, resources }: UpdateRequest) {
      const { id } = containerOf(find(target), "cannot update");
      const current = sandboxer.container(id).resources;
      await sandboxer.updateContainer(id, newLimits(id, resources, current));
      return {};
    },
    // deno-lint-ignore require-await -- as above
    setLogLevel: async ({ level }: SetLogLevelRequest) => ({ previous: setLogLevel(log, level) }),
  };
}

function list(
  { sandboxer }: ManagementPorts,
  { namespace, labels, afterId }: ListRequest,
) {
  const wanted = Object.entries(labels);
  const views = sandboxer.sandboxes()
    .filter(({ spec }) =>
      (afterId === "" || spec.id > afterId) && (namespace === "" || spec.namespace === namespace) &&
      wanted.every(([name, value]) => spec.labels[name] === value)
    )
    .sort((a, b) => a.spec.id < b.spec.id ? -1 : 1);
  const [sandboxes = []] = pagesOf(lazily(views, (view) => sandboxMessage(sandboxer, view)));
  const last = views[sandboxes.length - 1];
  const nextAfterId = sandboxes.length < views.length ? last?.spec.id ?? "" : "";
  return { sandboxes, nextAfterId };
}

function* lazily<T, U>(values: Iterable<T>, make: (value: T) => U): Generator<U> {
  for (const value of values) yield make(value);
}

/** The sandbox that is meant, where it has to be a whole one. */
function sandboxOf({ sandbox, container }: Found<TargetView>, action: string): SandboxView {
  if (container === undefined || sandbox.containers.length === 1) return sandbox.view;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot ${action} container "${container.id}" alone: it shares sandbox "${sandbox.id}" with ` +
      `${sandbox.containers.length - 1} more; kill it, or ${action} the sandbox`,
  );
}

function graceMs(grace: Duration | undefined): number {
  const ms = grace === undefined ? GRACE_MS : durationMs(grace);
  if (ms >= 0 && ms <= GRACE_MS_MAX) return ms;
  throw new SandboxError(
    "InvalidArgument",
    `cannot stop with a grace of ${ms} ms: expected 0 to ${GRACE_MS_MAX}`,
  );
}

/** Refuses to remove what runs, and what containerd would miss. */
function mustBeRemovable(
  id: string,
  name: string,
  state: SandboxView["state"],
  managed: boolean,
): void {
  const label = `sandbox "${name === "" ? id : name}"`;
  if (!managed) {
    throw new SandboxError(
      "FailedPrecondition",
      `cannot remove ${label}: containerd made it and would go on to count on it; remove it with ` +
        `"crictl rmp ${id}" or through Kubernetes, or force it`,
    );
  }
  if (state === "stopped" || state === "failed" || state === "created") return;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot remove ${label}: it is ${state}; stop it first, or force it`,
  );
}

/** The containers that are meant and in a state: the one, or all of the sandbox that are. */
function inState(
  { sandboxer }: ManagementPorts,
  { sandbox, container }: Found<TargetView>,
  state: "running" | "paused",
  action: string,
): readonly string[] {
  if (container !== undefined) return [container.id];
  const ids = sandbox.containers.map(({ id }) => id)
    .filter((id) => sandboxer.container(id).state === state);
  if (ids.length > 0) return ids;
  throw new SandboxError(
    "FailedPrecondition",
    `cannot ${action} sandbox "${sandbox.id}": it has no container that is ${state}`,
  );
}

/** New limits over those that there are: 0 leaves one as it is. */
function newLimits(
  id: string,
  resources: Resources | undefined,
  current: ResourceSpec,
): ResourceSpec {
  const { memoryBytes = 0n, cpuMillis = 0n, pids = 0n } = resources ?? {};
  if (memoryBytes === 0n && cpuMillis === 0n && pids === 0n) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot update container "${id}": no limit is given, expected memory, CPUs or processes`,
    );
  }
  return {
    ...current,
    ...(memoryBytes === 0n ? {} : { memoryBytes: limit(id, "memory", memoryBytes) }),
    ...(pids === 0n ? {} : { pids: limit(id, "processes", pids) }),
    ...(cpuMillis === 0n ? {} : {
      cpuPeriodUs: CPU_PERIOD_US,
      cpuQuotaUs: limit(id, "CPUs", cpuMillis * BigInt(CPU_PERIOD_US) / 1000n),
    }),
  };
}

function limit(id: string, what: string, value: bigint): number {
  if (value > 0n && value <= BigInt(Number.MAX_SAFE_INTEGER)) return Number(value);
  throw new SandboxError(
    "InvalidArgument",
    `cannot update container "${id}": invalid limit of ${what}: ${value}`,
  );
}
