/**
 * What sandboxes and containers use. A sandbox is a process of the host and is measured there; of
 * its containers only Quark could know.
 *
 * @module
 */

import { fromBinary } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { MetricsSchema } from "../../../proto/gen/io/containerd/cgroups/v1/metrics_pb.ts";
import type { Launcher, ProcessIdentity } from "../../host/launcher.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { Stats } from "../../lifecycle/spec.ts";

/** What a sandbox uses; nothing once it has ended. */
export async function sandboxStats(
  launcher: Launcher,
  kernel: ProcessIdentity,
  cgroup: string,
): Promise<Stats> {
  const at = Date.now();
  const usage = cgroup === "" ? undefined : await launcher.cgroupUsage(cgroup);
  if (usage !== undefined) {
    const { cpuNs, memoryBytes, inactiveFileBytes, memoryLimitBytes, pids } = usage;
    return {
      at,
      cpuNs,
      memoryBytes: Math.max(0, memoryBytes - inactiveFileBytes),
      ...(memoryLimitBytes === undefined ? {} : { memoryLimitBytes }),
      pids,
    };
  }
  const process = await launcher.processUsage(kernel);
  if (process === undefined) return { at, cpuNs: 0, memoryBytes: 0, pids: 0 };
  return { at, cpuNs: process.cpuNs, memoryBytes: process.residentBytes, pids: process.threads };
}

/**
 * What Quark says of a container.
 *
 * @param metrics Its answer to Stats.
 * @returns Undefined where it says nothing, which is what it does as of 2025.
 * @throws {SandboxError} `Internal` for what cannot be read.
 */
export function quarkStats(metrics: Any | undefined): Stats | undefined {
  if (metrics === undefined || metrics.value.length === 0) return undefined;
  if (!metrics.typeUrl.endsWith("cgroups.v1.Metrics")) {
    throw new SandboxError(
      "Internal",
      `cannot read Quark's measurements: found "${metrics.typeUrl}", expected cgroups.v1.Metrics`,
    );
  }
  const { cpu, memory, pids } = fromBinary(MetricsSchema, metrics.value);
  const used = Number(memory?.usage?.usage ?? 0n) - Number(memory?.totalInactiveFile ?? 0n);
  return {
    at: Date.now(),
    cpuNs: Number(cpu?.usage?.total ?? 0n),
    memoryBytes: Math.max(0, used),
    pids: Number(pids?.current ?? 0n),
  };
}
