/**
 * Looks at the host launcher, by which the kinds without FFI reach the host, and at what it says.
 *
 * @module
 */

import { DEFAULT_HOST_LAUNCHER_PATH } from "../../../sandboxers/host/launcher_file.ts";
import type { HostFacts } from "../../../sandboxers/host/launcher.ts";
import { SandboxError } from "../../../sandboxers/lifecycle/errors.ts";
import { type Finding, missing, ok } from "../finding.ts";
import type { DoctorHost } from "../host.ts";
import { building } from "../mending.ts";

/** The launcher, and what it says of the host where it can be run. */
export async function launcherCheck(
  host: DoctorHost,
): Promise<{ readonly finding: Finding; readonly facts?: HostFacts }> {
  const [id, title] = ["host-launcher", "host launcher"];
  const path = DEFAULT_HOST_LAUNCHER_PATH;
  const fail = (found: string): { readonly finding: Finding } => ({
    finding: missing("host", id, title, found, building(host, "host-launcher"), ["vmm", "gvisor"]),
  });
  if (await host.whatIsAt(path) !== "file") return fail(`not built: ${path}`);
  try {
    const facts = await host.facts();
    return { finding: ok("host", id, title, path), facts };
  } catch (error) {
    return fail(SandboxError.from(error).message);
  }
}
