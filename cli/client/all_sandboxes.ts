/**
 * The sandboxes of all sandboxers, also where one of these does not answer: then the others' are
 * shown all the same.
 *
 * @module
 */

import type { Fleet, FleetSandbox } from "../../sandboxers/client/fleet.ts";
import type { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
import { timeMs } from "../show/sandboxes.ts";

/** What was found. */
export interface AllSandboxes {
  /** The sandboxes, the youngest first. */
  readonly found: readonly FleetSandbox[];
  /** What went wrong with sandboxers. */
  readonly problems: readonly SandboxError[];
}

/**
 * Lists.
 *
 * @param fleet The sandboxers.
 * @param request Which of their sandboxes.
 * @throws {SandboxError} Where none of them answers.
 */
export async function allSandboxes(
  fleet: Fleet,
  request: { readonly namespace?: string } = {},
): Promise<AllSandboxes> {
  const { found: unsorted, problems } = await fleet.listAnswering(request);
  const found = [...unsorted].sort((a, b) =>
    timeMs(b.sandbox.createdAt) - timeMs(a.sandbox.createdAt)
  );
  return { found, problems: [...fleet.problems, ...problems] };
}
