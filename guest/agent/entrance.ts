/**
 * By what processes get into a running container without crun: opened when the container is made,
 * and held until it is deleted.
 *
 * @module
 */

import type { JsonObject } from "../protocol/messages.ts";
import { openCgroup } from "./cgroups.ts";
import { filterProgram } from "./crun.ts";
import { containerFilter, type EnterableContainer, type SystemCallFilter } from "./enter.ts";
import * as sys from "./sys.js";

/** See the module. */
export interface Entrance extends EnterableContainer {
  /** How the system calls of its processes are filtered. */
  readonly filter: SystemCallFilter;
}

/**
 * Opens what processes get into a container by.
 *
 * @param id The container, which crun has just created.
 * @param pid Its init process.
 * @param config Its configuration, as crun got it.
 * @returns undefined where only crun may start processes in it.
 * @throws AgentError Where its cgroup is not there.
 */
export function openEntrance(id: string, pid: number, config: JsonObject): Entrance | undefined {
  const filter = containerFilter(config, () => filterProgram(id));
  if (filter === undefined) return undefined;
  const pidfd = sys.pidfdOpen(pid);
  if (pidfd < 0) return undefined;
  try {
    return { pidfd, cgroup: openCgroup(id), filter };
  } catch (thrown) {
    sys.close(pidfd);
    throw thrown;
  }
}

/** Closes it. */
export function closeEntrance(entrance: Entrance): void {
  sys.close(entrance.pidfd);
  sys.close(entrance.cgroup);
}
