/**
 * Directories in the guest's memory that containers of the pod share by name, such as Kubernetes'
 * emptyDir. They live as long as the pod: a container that is made again finds its files.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import { mountAt } from "./files.ts";
import { MS_NODEV, MS_NOSUID } from "./linux.ts";

const PLACE = "/run/memory";

/** Whose a directory is, and its permission bits. */
export interface VolumeOwner {
  /** User. */
  readonly uid: number;
  /** Group. */
  readonly gid: number;
  /** Permission bits, those for set-user-id and the like included. */
  readonly mode: number;
}

/** The pod's directories in memory. */
export class MemoryVolumes {
  readonly #made = new Set<string>();

  /**
   * The directory of a name; it is made at the first time. Everybody can write to it, as to an
   * emptyDir.
   *
   * @param name Letters, digits, `.`, `_` and `-`.
   * @param sizeBytes How much it holds; undefined for half of the guest's memory.
   * @param owner Whose it is when it is made; undefined for root's, which everybody can write to.
   * @throws AgentError `InvalidArgument`; what the kernel refused.
   */
  source(name: string, sizeBytes: number | undefined, owner?: VolumeOwner): string {
    if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/.test(name)) {
      throw new AgentError(
        "InvalidArgument",
        `cannot use "${name}" for a directory in memory: letters, digits, ".", "_", "-" are expected`,
      );
    }
    const path = `${PLACE}/${name}`;
    if (this.#made.has(name)) return path;
    const size = sizeBytes === undefined ? "50%" : String(Math.max(4096, Math.ceil(sizeBytes)));
    const { uid, gid, mode } = owner ?? { uid: 0, gid: 0, mode: 0o777 };
    const options = `mode=${(mode & 0o7777).toString(8)},uid=${uid},gid=${gid},size=${size}`;
    mountAt("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, options);
    this.#made.add(name);
    return path;
  }
}
