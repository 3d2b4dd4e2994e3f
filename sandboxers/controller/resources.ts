/**
 * Limits of a pod: CRI's `LinuxContainerResources`, as a protobuf message or as the JSON that
 * containerd keeps in an extension, to the lifecycle's {@link ResourceSpec}.
 *
 * @module
 */

import type { LinuxContainerResources } from "../../proto/gen/runtime/v1/pod_pb.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ResourceSpec } from "../lifecycle/spec.ts";

/** CRI's resources with numbers, 0 where nothing was said. */
interface Amounts {
  readonly cpuPeriodUs: number;
  readonly cpuQuotaUs: number;
  readonly cpuShares: number;
  readonly memoryBytes: number;
  readonly cpusetCpus: string;
}

/** The kernel's bounds for cpu.shares. */
const CPU_SHARES_MIN = 2;
const CPU_SHARES_MAX = 262_144;

/** The kernel's default CPU period in microseconds. */
const CPU_PERIOD_DEFAULT_US = 100_000;

/**
 * The limits of a pod: those of its containers together, plus what the sandbox itself costs.
 *
 * @param resources What the containers of the pod may use.
 * @param overhead The pod overhead of its RuntimeClass.
 * @param field Where they came from, for messages.
 * @throws SandboxError `InvalidArgument` for a number out of range.
 */
export function podResources(
  resources: LinuxContainerResources | undefined,
  overhead: LinuxContainerResources | undefined,
  field: string,
): ResourceSpec {
  return sum(
    resources === undefined ? undefined : amountsOf(resources, `${field}.resources`),
    overhead === undefined ? undefined : amountsOf(overhead, `${field}.overhead`),
  );
}

/**
 * The limits in containerd's extension "updated-resources", type
 * `io.containerd.cri.v1/UpdatedResources` (containerd internal/cri/server/podsandbox/helpers.go,
 * since 2.3): JSON of `{Overhead, Resources}` with CRI's field names.
 *
 * @param json The extension's value.
 * @throws SandboxError `InvalidArgument` when it is something else.
 */
export function updatedResources(json: Uint8Array): ResourceSpec {
  const field = "sandbox.extensions.updated-resources";
  const parsed = parseObject(json, field);
  return sum(
    amountsOfJson(parsed["Resources"], `${field}.Resources`),
    amountsOfJson(parsed["Overhead"], `${field}.Overhead`),
  );
}

/** Both together. Where the containers have no limit, the pod has none. */
function sum(resources: Amounts | undefined, overhead: Amounts | undefined): ResourceSpec {
  if (resources === undefined) return {};
  const { memoryBytes, cpuQuotaUs, cpuShares, cpusetCpus } = resources;
  const cpuPeriodUs = resources.cpuPeriodUs || CPU_PERIOD_DEFAULT_US;
  const shares = cpuShares + (overhead?.cpuShares ?? 0);
  return {
    ...(memoryBytes > 0 && { memoryBytes: memoryBytes + (overhead?.memoryBytes ?? 0) }),
    ...(cpuQuotaUs > 0 && {
      cpuQuotaUs: cpuQuotaUs + quotaFor(overhead, cpuPeriodUs),
      cpuPeriodUs,
    }),
    ...(cpuShares > 0 && {
      cpuShares: Math.min(Math.max(shares, CPU_SHARES_MIN), CPU_SHARES_MAX),
    }),
    ...(cpusetCpus !== "" && { cpusetCpus }),
  };
}

/** A quota in terms of another period. */
function quotaFor(amounts: Amounts | undefined, periodUs: number): number {
  if (amounts === undefined || amounts.cpuQuotaUs <= 0) return 0;
  const ownPeriodUs = amounts.cpuPeriodUs || CPU_PERIOD_DEFAULT_US;
  return Math.round(amounts.cpuQuotaUs * periodUs / ownPeriodUs);
}

function amountsOf(resources: LinuxContainerResources, field: string): Amounts {
  return {
    cpuPeriodUs: amount(resources.cpuPeriod, `${field}.cpu_period`),
    cpuQuotaUs: amount(resources.cpuQuota, `${field}.cpu_quota`),
    cpuShares: amount(resources.cpuShares, `${field}.cpu_shares`),
    memoryBytes: amount(resources.memoryLimitInBytes, `${field}.memory_limit_in_bytes`),
    cpusetCpus: cpuset(resources.cpusetCpus, `${field}.cpuset_cpus`),
  };
}

/** The same from Go's JSON, which leaves out what is 0. */
function amountsOfJson(json: unknown, field: string): Amounts | undefined {
  if (json === null || json === undefined) return undefined;
  if (!isObject(json)) throw invalid(field, "an object");
  return {
    cpuPeriodUs: amount(json["cpu_period"] ?? 0, `${field}.cpu_period`),
    cpuQuotaUs: amount(json["cpu_quota"] ?? 0, `${field}.cpu_quota`),
    cpuShares: amount(json["cpu_shares"] ?? 0, `${field}.cpu_shares`),
    memoryBytes: amount(json["memory_limit_in_bytes"] ?? 0, `${field}.memory_limit_in_bytes`),
    cpusetCpus: cpuset(json["cpuset_cpus"] ?? "", `${field}.cpuset_cpus`),
  };
}

/** An int64 that fits a number; what is negative means "no limit" in CRI, as 0 does. */
function amount(value: unknown, field: string): number {
  const number = typeof value === "bigint" ? Number(value) : value;
  if (typeof number !== "number" || !Number.isSafeInteger(number)) {
    throw invalid(field, `an integer up to ${Number.MAX_SAFE_INTEGER}`);
  }
  return Math.max(0, number);
}

/** A cpuset list such as `0-3,6` (cpuset(7)). */
function cpuset(value: unknown, field: string): string {
  if (typeof value === "string" && /^(\d+(-\d+)?(,\d+(-\d+)?)*)?$/.test(value)) return value;
  throw invalid(field, `a list of CPUs such as "0-3,6"`);
}

function parseObject(json: Uint8Array, field: string): Record<string, unknown> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(json));
  } catch (error) {
    throw new SandboxError("InvalidArgument", `invalid ${field}: cannot decode its JSON`, {
      cause: error,
    });
  }
  if (!isObject(parsed)) throw invalid(field, "a JSON object");
  return parsed;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(field: string, expected: string): SandboxError {
  return new SandboxError("InvalidArgument", `invalid ${field}: expected ${expected}`);
}
