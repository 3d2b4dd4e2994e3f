/**
 * Kernel settings of a pod. gVisor takes none, but those of its network namespace can be set there:
 * they hold where the host's network stack is used in it.
 *
 * @module
 */

import type { Launcher } from "../../host/launcher.ts";
import { runInNetns } from "../../host/netns.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";

/**
 * Sets them.
 *
 * @param launcher The host launcher.
 * @param spec The pod.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` for a setting that gVisor cannot give.
 */
export async function setSysctls(
  launcher: Launcher,
  { id, network, sysctls = {} }: SandboxSpec,
  signal: AbortSignal,
): Promise<void> {
  const entries = Object.entries(sysctls);
  if (entries.length === 0) return;
  const action = `cannot start sandbox "${id}"`;
  const [foreign] = entries.find(([name]) => !/^net[./]/.test(name)) ?? [];
  if (foreign !== undefined || network.kind !== "namespace") {
    throw new SandboxError(
      "FailedPrecondition",
      `${action}: gVisor cannot set the kernel setting "${foreign ?? entries[0]?.[0]}": take it ` +
        "out, or run the pod with another runtime",
    );
  }
  const commands = entries.map(([name, value]) =>
    `${name.replaceAll(".", "/").replace(/^net\//, "")} ${value}`
  );
  const step = { netns: network.path, program: "sysctl", commands } as const;
  await runInNetns(launcher, action, [step], { signal });
}
