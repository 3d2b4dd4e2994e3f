/**
 * The files by which a pod's containers know their names and how to look up others: /etc/hosts,
 * /etc/hostname and /etc/resolv.conf. containerd makes them only for pods that it makes itself.
 *
 * Source: containerd internal/cri/server/podsandbox/sandbox_run_linux.go, setupSandboxFiles.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import { checkId } from "../lifecycle/ids.ts";
import type { BindMountSpec, ContainerSpec, SandboxSpec } from "../lifecycle/spec.ts";
import { resolvConf } from "../resolv_conf.ts";
import { AT_FDCWD, OPEN } from "./native/syscalls.ts";
import type { System } from "./native/system.ts";

/** For a pod that has an address of its own. */
const HOSTS = `127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
`;

/** What is written for a pod; where there is nothing to say, the host's own file is right. */
type Contents = Readonly<Record<"hosts" | "hostname" | "resolv.conf", string | undefined>>;

/** The files of one pod. Disposing of them removes what was written. */
export class PodFiles implements Disposable {
  readonly #directory: string;
  readonly #mounts: readonly BindMountSpec[];

  /**
   * Writes the files.
   *
   * @param system Looks whether the host has a file.
   * @param parent Where the pod's directory is made.
   * @param spec The pod.
   * @throws {SandboxError} When they cannot be written.
   */
  constructor(system: System, parent: string, spec: SandboxSpec) {
    checkId("sandbox id", spec.id);
    this.#directory = `${parent}/${spec.id}`;
    try {
      Deno.mkdirSync(this.#directory, { recursive: true, mode: 0o711 });
      this.#mounts = Object.entries(contentsOf(spec)).flatMap(([name, text]) => {
        const destination = `/etc/${name}`;
        const source = text === undefined ? destination : `${this.#directory}/${name}`;
        if (text !== undefined) Deno.writeTextFileSync(source, text, { mode: 0o644 });
        else if (!exists(system, source)) return [];
        // A guest that could write to them could fill the memory that they and the state are in.
        return [{ source, destination, readonly: true }];
      });
    } catch (error) {
      this[Symbol.dispose]();
      throw SandboxError.from(error, `cannot write the files of sandbox "${spec.id}"`);
    }
  }

  /**
   * What of them a container mounts: all but those that it brings along itself. A root file system
   * that is the caller's own directory is left as it is.
   *
   * @param spec The container.
   */
  mountsFor({ rootfs, mounts }: ContainerSpec): readonly BindMountSpec[] {
    if (rootfs.kind !== "mounts") return [];
    const taken = new Set(mounts.map(({ destination }) => destination));
    return this.#mounts.filter(({ destination }) => !taken.has(destination));
  }

  /** Removes what was written. */
  [Symbol.dispose](): void {
    remove(this.#directory);
  }
}

/**
 * Removes the files of a pod that an earlier process left.
 *
 * @param parent See {@link PodFiles}.
 * @param id The pod's.
 */
export function removePodFiles(parent: string, id: string): void {
  checkId("sandbox id", id);
  remove(`${parent}/${id}`);
}

function remove(directory: string): void {
  try {
    Deno.removeSync(directory, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Whether the host has a file. */
function exists(system: System, path: string): boolean {
  const fd = system.openAt(AT_FDCWD, path, OPEN.path, 0);
  if (fd >= 0) system.close(fd);
  return fd >= 0;
}

function contentsOf({ network, hostname, dns }: SandboxSpec): Contents {
  const text = resolvConf(dns);
  return {
    "hosts": network.kind === "host" ? undefined : HOSTS,
    "hostname": hostname === "" ? undefined : `${hostname}\n`,
    "resolv.conf": text === "" ? undefined : text,
  };
}
