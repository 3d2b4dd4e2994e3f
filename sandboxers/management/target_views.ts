/**
 * Finds what is meant among the sandboxes of the lifecycle.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Sandboxer } from "../lifecycle/sandboxer.ts";
import type { SandboxView } from "../lifecycle/view.ts";
import { containerName } from "./messages.ts";
import { findTarget, type Found, type TargetSandbox } from "./targets.ts";

/** A sandbox that can be meant, with its view. */
export interface TargetView extends TargetSandbox {
  /** The sandbox as it is now. */
  readonly view: SandboxView;
}

/**
 * Finds a sandbox or container.
 *
 * @param sandboxer Where it is looked for.
 * @param target See {@link findTarget}.
 * @throws {SandboxError} See {@link findTarget}.
 */
export function lookUp(sandboxer: Sandboxer, target: string): Found<TargetView> {
  // Programs name things by their ids: then nothing else needs to be looked at.
  const exact = orMissing(() => sandboxer.sandbox(target)) ??
    orMissing(() => sandboxer.sandbox(sandboxer.container(target).spec.sandboxId));
  const views = exact === undefined ? sandboxer.sandboxes() : [exact];
  return findTarget(views.map((view) => targetView(sandboxer, view)), target);
}

/** What is there; undefined where it is not found. */
function orMissing<T>(find: () => T): T | undefined {
  try {
    return find();
  } catch (error) {
    if (error instanceof SandboxError && error.code === "NotFound") return undefined;
    throw error;
  }
}

function targetView(sandboxer: Sandboxer, view: SandboxView): TargetView {
  const { id, name, labels } = view.spec;
  const containers = view.containerIds.map((containerId) => ({
    id: containerId,
    name: containerName(sandboxer.container(containerId).spec),
  }));
  return { view, id, name, labels, containers };
}
