/**
 * What the containers of a pod share: the files by which they know names (/etc/hosts, /etc/hostname,
 * /etc/resolv.conf), which containerd makes only for pods that it makes itself, and /dev/shm.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { DnsSpec, SandboxSpec } from "../../lifecycle/spec.ts";
import { type JsonObject, stringOf, stringsOf } from "../../oci/json.ts";

const SHM = "/dev/shm";
/** What containerd and runc say of a /dev/shm whose size nobody has asked for. */
const SHM_DEFAULT_SIZE = "size=65536k";
/** How a pod's /dev/shm is mounted. */
const SHM_OPTIONS = ["nosuid", "noexec", "nodev", "mode=1777", SHM_DEFAULT_SIZE];
/**
 * Annotations of a pod by which runsc knows a mount that its containers share.
 * Source: google/gvisor runsc/boot/mount_hints.go.
 */
const SHM_HINT = "dev.gvisor.spec.mount.shm";

/** What a pod's containers share. */
export interface SharedFiles {
  /** The name of the /dev/shm; undefined for a container that has its own. */
  readonly shm: string | undefined;
  /** Files, and where containers see them unless they bring their own. */
  readonly files: readonly { readonly source: string; readonly destination: string }[];
}

/**
 * What the containers of a pod share, by the pod's directory.
 *
 * @param directory The pod's directory; {@link writePodFiles} has written to it.
 */
export function sharedFiles(directory: string): SharedFiles & { readonly shm: string } {
  const names = ["hosts", "hostname", "resolv.conf"];
  return {
    shm: `${directory}/shm`,
    files: names.map((name) => ({
      source: `${directory}/${name}`,
      destination: `/etc/${name}`,
    })),
  };
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

/** resolv.conf(5). */
function resolvConf({ servers, searches, options }: DnsSpec): string {
  return [
    ...(searches.length === 0 ? [] : [`search ${searches.join(" ")}\n`]),
    ...servers.map((server) => `nameserver ${server}\n`),
    ...(options.length === 0 ? [] : [`options ${options.join(" ")}\n`]),
  ].join("");
}

/**
 * Annotations of a pod that has a /dev/shm which its containers share. It is in the sentry: nothing
 * of it is on the host.
 *
 * @param shm Its name, in the form of an absolute path.
 */
export function shmAnnotations(shm: string): JsonObject {
  return {
    [`${SHM_HINT}.source`]: shm,
    [`${SHM_HINT}.type`]: "tmpfs",
    [`${SHM_HINT}.share`]: "pod",
    [`${SHM_HINT}.options`]: SHM_OPTIONS.join(","),
  };
}

/**
 * The mount of a pod's /dev/shm in a container.
 *
 * @param shm Its name.
 * @param mount What the container asked for.
 */
export function podShm(shm: string, mount: JsonObject): JsonObject {
  const readonly = stringsOf(mount, "options").includes("ro");
  const options = readonly ? [...SHM_OPTIONS, "ro"] : SHM_OPTIONS;
  return { destination: SHM, type: "tmpfs", source: shm, options };
}

/** Whether a mount is a /dev/shm as everybody has it, which the pod's can stand in for. */
export function isDefaultShm(mount: JsonObject): boolean {
  const destination = stringOf(mount, "destination").replace(/(?<=.)\/+$/, "");
  if (destination !== SHM || stringOf(mount, "type") !== "tmpfs") return false;
  const sizes = stringsOf(mount, "options").filter((option) => option.startsWith("size="));
  return sizes.every((size) => size === SHM_DEFAULT_SIZE);
}
