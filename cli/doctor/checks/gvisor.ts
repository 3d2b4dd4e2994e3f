/**
 * Looks at what gVisor takes: runsc, whether its build is a sound one, and whether it runs here.
 *
 * @module
 */

import type { HostFacts } from "../../../sandboxers/host/launcher.ts";
import { SandboxError } from "../../../sandboxers/lifecycle/errors.ts";
import { RUNSC_MINIMUM } from "../../../sandboxers/minimum_versions.ts";
import { type Finding, missing, note, ok } from "../finding.ts";
import type { DoctorHost } from "../host.ts";
import { installing, quasaur } from "../mending.ts";

/** Looks. What needs the launcher is left out where it does not run. */
export async function gvisorChecks(
  host: DoctorHost,
  facts: HostFacts | undefined,
): Promise<Finding[]> {
  const read = await host.quarkConfig();
  if ("problem" in read) {
    const mend = `${quasaur(host)} config quark`;
    const title = "configuration of quark";
    return [missing("gvisor", "quark-config", title, read.problem, mend, ["gvisor"])];
  }
  const { config } = read;
  const found = await runsc(host, config.gvisor.path);
  if (facts === undefined || found.state === "missing") return [found];
  const [id, title] = ["gvisor-platform", "tiny container"];
  if (host.uid() !== 0) {
    return [found, note("gvisor", id, title, "not tried: that takes root", "sudo quasaur doctor")];
  }
  try {
    const { platform, why } = await host.tryRunsc(config, facts);
    return [found, ok("gvisor", id, title, `runs with ${platform}: ${why}`)];
  } catch (error) {
    const { message } = SandboxError.from(error);
    const mend = installing(host, "runsc");
    return [found, missing("gvisor", id, title, message, mend, ["gvisor"])];
  }
}

async function runsc(host: DoctorHost, path: string): Promise<Finding> {
  const [id, title] = ["runsc", "runsc"];
  const mend = installing(host, "runsc");
  if (await host.whatIsAt(path) !== "file") {
    return missing("gvisor", id, title, `no such file: ${path} (gvisor.path)`, mend, ["gvisor"]);
  }
  try {
    const { version, go, problem } = await host.runsc(path);
    const built = go === undefined ? version : `${version}, built with Go ${go}`;
    if (problem !== undefined) return note("gvisor", id, title, `${built}: ${problem}`, mend);
    // Debian's versions and gVisor's own have the day in them.
    const day = /\d{8}/.exec(version)?.[0];
    if (day === undefined || day >= RUNSC_MINIMUM) return ok("gvisor", id, title, built);
    const old = `${built}: the oldest that was run with is of ${RUNSC_MINIMUM}`;
    return note("gvisor", id, title, old, mend);
  } catch (error) {
    return missing("gvisor", id, title, SandboxError.from(error).message, mend, ["gvisor"]);
  }
}
