/**
 * Ends containers that containerd has given up: the process that held its connections to them was
 * killed, so they are EXITED for containerd, which never connects again. Left running, a container
 * would run beside the one that replaces it.
 *
 * @module
 */

import { SandboxError } from "./lifecycle/errors.ts";
import { SIGKILL } from "./lifecycle/exits.ts";
import type { Sandboxer } from "./lifecycle/sandboxer.ts";
import type { SandboxView } from "./lifecycle/view.ts";
import type { Log } from "./log.ts";

/** What {@link endGivenUp} works on. */
export interface GivenUpOptions {
  /** The lifecycle. */
  readonly sandboxer: Sandboxer;
  /** Whether a sandbox is containerd's: those of others have nobody who could give them up. */
  readonly isContainerds: (view: SandboxView) => boolean;
  /** Where it is told. */
  readonly log: Log;
}

/**
 * Kills the containers that there are now in sandboxes whose task calls go through a relay. Never
 * rejects; what cannot be killed is logged, and ends with its sandbox.
 *
 * @param options See {@link GivenUpOptions}.
 */
export async function endGivenUp(
  { sandboxer, isContainerds, log }: GivenUpOptions,
): Promise<void> {
  const ids = sandboxer.sandboxes()
    .filter((view) => view.taskSocket !== undefined && isContainerds(view))
    .flatMap(({ containerIds }) => containerIds)
    .filter((id) => sandboxer.container(id).state !== "stopped");
  if (ids.length === 0) return;
  log.error("containerd has lost its connections: ending the containers that it has given up", {
    containers: ids,
  });
  await Promise.all(ids.map(async (id) => {
    try {
      await sandboxer.killProcess(id, "", SIGKILL, true);
    } catch (error) {
      const { code } = SandboxError.from(error);
      if (code !== "NotFound") log.warn("cannot end a container", { container: id, error });
    }
  }));
}
