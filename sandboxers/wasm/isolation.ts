/**
 * How far a pod is kept apart from others: on threads of the sandboxer (`thread`), or in a process of
 * its own (`process`). The pod's runtime handler decides, or its annotation; an annotation can ask
 * for more than the handler gives, never for less.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";

/** The annotation of a pod that chooses. */
export const ISOLATION_ANNOTATION = "quasaur.dev/isolation";

/** The levels. */
export const ISOLATIONS = ["thread", "process"] as const;

/** See {@link ISOLATIONS}. */
export type Isolation = typeof ISOLATIONS[number];

/** containerd's runtime type of a handler whose pods all have their own process. */
const PROCESS_RUNTIME = /-process\.v\d+$/;

/**
 * The isolation of a pod.
 *
 * @param spec The pod.
 * @throws {SandboxError} `InvalidArgument` for an annotation that is neither, or that asks for less
 *   than the runtime handler gives.
 */
export function isolationOf(
  { id, runtime = "", annotations }: Pick<SandboxSpec, "id" | "runtime" | "annotations">,
): Isolation {
  const byRuntime = PROCESS_RUNTIME.test(runtime) ? "process" : "thread";
  const text = annotations[ISOLATION_ANNOTATION];
  if (text === undefined) return byRuntime;
  const action = `cannot start sandbox "${id}": annotation "${ISOLATION_ANNOTATION}"`;
  const wanted = ISOLATIONS.find((isolation) => isolation === text);
  if (wanted === undefined) {
    const found = JSON.stringify(text.slice(0, 100));
    throw new SandboxError(
      "InvalidArgument",
      `${action} is ${found}: expected "thread" or "process"`,
    );
  }
  if (wanted === "thread" && byRuntime === "process") {
    throw new SandboxError(
      "InvalidArgument",
      `${action} is "thread", but the runtime "${runtime}" gives every pod a process: leave the ` +
        "annotation out, or use another runtime handler",
    );
  }
  return wanted;
}
