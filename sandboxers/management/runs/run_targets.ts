/**
 * Finds the containers that callers mean, and tells those whose containers are containerd's where to
 * ask.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { Sandboxer } from "../../lifecycle/sandboxer.ts";
import { lookUp } from "../target_views.ts";
import { containerOf } from "../targets.ts";
import type { ManagedRun } from "./managed_run.ts";
import type { RunRegistry } from "./run_registry.ts";

/** The namespace of Kubernetes' pods, whose tool is crictl. */
const KUBERNETES = "k8s.io";

/** A container that is meant. */
export interface FoundContainer {
  /** Its sandbox. */
  readonly sandboxId: string;
  /** The containerd namespace of that. */
  readonly namespace: string;
  /** Itself. */
  readonly containerId: string;
}

/**
 * Finds a container.
 *
 * @param sandboxer Where the state is.
 * @param target An id or name, or the beginning of an id.
 * @param action What is to be done, such as `cannot attach to`.
 * @throws {SandboxError} `NotFound`, `InvalidArgument` where several are meant,
 *   `FailedPrecondition` for a sandbox without containers or with several.
 */
export function findContainer(
  sandboxer: Sandboxer,
  target: string,
  action: string,
): FoundContainer {
  const found = lookUp(sandboxer, target);
  const { id, namespace } = found.sandbox.view.spec;
  return { sandboxId: id, namespace, containerId: containerOf(found, action).id };
}

/**
 * The sandbox of a container, where it was made without containerd.
 *
 * @param registry All such sandboxes.
 * @param found The container.
 * @param action What is to be done, such as `cannot attach to container "a"`.
 * @param verb What crictl calls that.
 * @throws {SandboxError} `FailedPrecondition` where containerd has its streams.
 */
export function managedOnly(
  registry: RunRegistry,
  { sandboxId, namespace, containerId }: FoundContainer,
  action: string,
  verb: "attach" | "logs",
): ManagedRun {
  const run = registry.find(sandboxId);
  if (run !== undefined) return run;
  const instead = namespace === KUBERNETES
    ? `use "crictl ${verb} ${containerId}"`
    : verb === "attach"
    ? `use "ctr --namespace ${namespace} task attach ${containerId}"`
    : "its client has its output";
  throw new SandboxError(
    "FailedPrecondition",
    `${action}: it was made by containerd, which has its streams: ${instead}`,
  );
}
