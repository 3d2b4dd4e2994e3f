/**
 * Looks at the sandboxers that listen: whether they answer, and whether they are of this version.
 *
 * @module
 */

import { type Finding, missing, note, ok } from "../finding.ts";
import type { DoctorHost } from "../host.ts";

/** The command that starts a sandboxer that is installed, or runs it from the sources. */
function starting(host: DoctorHost, kind: string): string {
  return host.isSourceTree ? `deno task ${kind}` : `systemctl start quasaur-${kind}`;
}

/** The command that starts one again. */
function restarting(host: DoctorHost, kind: string): string {
  return host.isSourceTree ? `deno task ${kind}` : `systemctl restart quasaur-${kind}`;
}

/**
 * Looks.
 *
 * @param version The version of this command.
 */
export async function sandboxerChecks(host: DoctorHost, version: string): Promise<Finding[]> {
  const found = await host.sandboxers();
  if (found.length === 0) {
    const text = "none is running: `quasaur run` works without";
    return [note("sandboxers", "sandboxers", "sandboxers", text, starting(host, "wasm"))];
  }
  return found.map((one) => {
    const name = /([^/]+)\.sock$/.exec(one.address)?.[1] ?? one.address;
    const [id, title] = [`sandboxer:${one.address}`, `sandboxer ${name}`];
    if ("problem" in one) {
      const mend = host.uid() === 0 ? restarting(host, name) : "sudo quasaur doctor";
      return missing("sandboxers", id, title, one.problem, mend);
    }
    if (one.version === version) {
      return ok("sandboxers", id, title, `${one.kind} ${one.version} answers at ${one.address}`);
    }
    const text = `${one.kind} ${one.version} answers at ${one.address}, this is ${version}`;
    return note("sandboxers", id, title, text, restarting(host, one.kind));
  });
}
