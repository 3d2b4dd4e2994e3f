/**
 * The files by which the containers of a pod know names (/etc/hosts, /etc/hostname, /etc/resolv.conf).
 * containerd makes them only for pods that it makes itself; both application kernels have them from
 * here.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import { resolvConf } from "../resolv_conf.ts";

/** A file of a pod, and where containers see it unless they bring their own. */
export interface PodFile {
  /** Where it is on the host. */
  readonly source: string;
  /** Where it is in a container. */
  readonly destination: string;
}

/**
 * The files that the containers of a pod share.
 *
 * @param directory The pod's directory; {@link writePodFiles} has written to it.
 */
export function podFiles(directory: string): readonly PodFile[] {
  return ["hosts", "hostname", "resolv.conf"].map((name) => ({
    source: `${directory}/${name}`,
    destination: `/etc/${name}`,
  }));
}

/** The hostname of a pod that asks for none. */
const DEFAULT_HOSTNAME = "quasaur";

/** The hostname of a pod. */
export function hostnameOf({ hostname }: SandboxSpec): string {
  return hostname || DEFAULT_HOSTNAME;
}

/**
 * Writes the files of a pod.
 *
 * @param directory The pod's directory.
 * @param spec The pod.
 * @throws {SandboxError} `ResourceExhausted` where the disk is full.
 */
export async function writePodFiles(directory: string, spec: SandboxSpec): Promise<void> {
  const hosts = spec.network.kind === "host" ? await hostFile("/etc/hosts") : "";
  const contents: Readonly<Record<string, string>> = {
    hosts: hosts === "" ? HOSTS : hosts,
    hostname: `${hostnameOf(spec)}\n`,
    "resolv.conf": resolvConf(spec.dns) || await hostFile("/etc/resolv.conf"),
  };
  try {
    await Promise.all(
      Object.entries(contents).map(([name, text]) =>
        Deno.writeTextFile(`${directory}/${name}`, text, { mode: 0o644 })
      ),
    );
  } catch (error) {
    throw SandboxError.from(error, `cannot write the files of sandbox "${spec.id}"`);
  }
}

/** For a pod that has an address of its own. */
const HOSTS = `127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
`;

/** A file of the host; empty where it is missing. */
async function hostFile(path: string): Promise<string> {
  return await Deno.readTextFile(path).catch(() => "");
}
