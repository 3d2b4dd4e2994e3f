/**
 * The sandboxes of all sandboxers, also where one of these does not answer: then the others' are
 * shown all the same.
 *
 * @module
 */

import type { Fleet, FleetSandbox } from "../../sandboxers/client/fleet.ts";
import { SandboxError } from "../../sandboxers/lifecycle/errors.ts";
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
  const problems: SandboxError[] = [];
  const lists = await Promise.all(fleet.clients.map(async (client): Promise<FleetSandbox[]> => {
    try {
      const sandboxes = await client.list(request);
      return sandboxes.map((sandbox) => ({ client, sandbox }));
    } catch (error) {
      const { code, message } = SandboxError.from(error);
      problems.push(
        new SandboxError(code, `cannot list the sandboxes at "${client.address}": ${message}`),
      );
      return [];
    }
  }));
  const [problem] = problems;
  if (problem !== undefined && problems.length === fleet.clients.length) throw problem;
  const found = lists.flat().sort((a, b) =>
    timeMs(b.sandbox.createdAt) - timeMs(a.sandbox.createdAt)
  );
  return { found, problems: [...fleet.problems, ...problems] };
}
