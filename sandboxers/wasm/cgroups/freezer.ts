/**
 * Freezing and thawing the threads of a cgroup.
 *
 * Source: Linux Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst
 * (cgroup.freeze, cgroup.events).
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { systemError } from "../native/errno.ts";
import type { CgroupFiles } from "./files.ts";
import { directoryOf, type Group } from "./groups.ts";

/** How long threads may take to freeze: one that waits for a disk does not until it has its data. */
const FREEZE_TIMEOUT_MS = 3_000;
const POLL_INTERVAL_MS = 1;
const POLL_INTERVAL_MAX_MS = 50;

/**
 * Freezes what is in a cgroup and waits until it is.
 *
 * @param what Who is frozen, for messages.
 * @throws {SandboxError} `DeadlineExceeded` when that takes too long; then it is thawed again.
 */
export async function freeze(files: CgroupFiles, group: Group, what: string): Promise<void> {
  write(files, group, true);
  const end = performance.now() + FREEZE_TIMEOUT_MS;
  for (let intervalMs = POLL_INTERVAL_MS; !isFrozen(files, group);) {
    if (performance.now() > end) {
      thaw(files, group);
      throw new SandboxError(
        "DeadlineExceeded",
        `cannot freeze ${what}: it was not frozen after ${FREEZE_TIMEOUT_MS} ms`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
    intervalMs = Math.min(intervalMs * 2, POLL_INTERVAL_MAX_MS);
  }
}

/** Thaws what is in a cgroup. */
export function thaw(files: CgroupFiles, group: Group): void {
  write(files, group, false);
}

/** Whether everything in a cgroup is frozen. */
export function isFrozen(files: CgroupFiles, group: Group): boolean {
  const directory = directoryOf(group);
  return group.hierarchy.version === 1
    ? files.read(`${directory}/freezer.state`)?.trim() === "FROZEN"
    : /^frozen 1$/m.test(files.read(`${directory}/cgroup.events`) ?? "");
}

function write(files: CgroupFiles, group: Group, frozen: boolean): void {
  const [file, value] = group.hierarchy.version === 1
    ? ["freezer.state", frozen ? "FROZEN" : "THAWED"]
    : ["cgroup.freeze", frozen ? "1" : "0"];
  const errno = files.write(`${directoryOf(group)}/${file}`, value);
  if (errno !== 0) {
    throw systemError(`cannot write "${value}" to ${directoryOf(group)}/${file}`, errno);
  }
}
