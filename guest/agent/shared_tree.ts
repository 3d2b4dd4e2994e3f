/**
 * The tree of files that the host shares over virtiofs. It is mounted once; containers get
 * directories and files of it. Directories of it may be mounts on the host, which the kernel mounts
 * by itself here when they are entered, and which the host can only unmount when nothing here
 * remembers them.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import { mountAt, unmountAt } from "./files.ts";
import { MS_NODEV } from "./linux.ts";
import * as sys from "./sys.js";

const PLACE = "/run/shared";

/** The shared tree. */
export class SharedTree {
  #tag: string | undefined;

  /**
   * Mounts it. Once more with the same tag does nothing.
   *
   * @param tag The tag of the virtiofs device.
   * @throws AgentError `AlreadyExists` with another tag, `InvalidArgument` where there is no such
   *   device.
   */
  mount(tag: string): void {
    if (tag === this.#tag) return;
    if (this.#tag !== undefined) {
      throw new AgentError(
        "AlreadyExists",
        `cannot mount the shared tree "${tag}": "${this.#tag}" is mounted`,
      );
    }
    mountAt(tag, PLACE, "virtiofs", MS_NODEV, null);
    this.#tag = tag;
  }

  /**
   * Where a file or directory of it is.
   *
   * @param path Relative to its root.
   * @throws AgentError `FailedPrecondition` where it is not mounted, `NotFound` where there is no
   *   such file, `InvalidArgument` for a path that leaves it.
   */
  path(path: string): string {
    if (this.#tag === undefined) {
      throw new AgentError(
        "FailedPrecondition",
        `cannot use "${path}" of the shared tree: it is not mounted`,
      );
    }
    const parts = path.split("/").filter((part) => part !== "" && part !== ".");
    if (parts.includes("..")) {
      throw new AgentError("InvalidArgument", `"${path}" is not a path of the shared tree`);
    }
    const place = [PLACE, ...parts].join("/");
    // With a slash at its end a directory is entered, which mounts what the host has mounted there.
    if (typeof sys.stat(`${place}/`) === "number" && typeof sys.stat(place) === "number") {
      throw new AgentError("NotFound", `the shared tree has no "${path}"`);
    }
    return place;
  }

  /**
   * Forgets a directory of it that is a mount on the host, so that the host can unmount it.
   *
   * @param path As {@link path} gave it.
   */
  forget(path: string): void {
    sys.umount(path, 0);
    sys.writeFile("/proc/sys/vm/drop_caches", "2");
  }

  /**
   * Unmounts it.
   *
   * @returns What was out of the ordinary, for the log.
   */
  unmount(): string | undefined {
    if (this.#tag === undefined) return undefined;
    this.#tag = undefined;
    return unmountAt(PLACE);
  }
}
