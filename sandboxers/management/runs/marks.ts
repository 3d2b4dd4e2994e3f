/**
 * What is written on sandboxes so that the next sandboxer process knows what to do with them.
 *
 * @module
 */

import type { SandboxSpec } from "../../lifecycle/spec.ts";
import { MANAGED_ANNOTATION } from "../ports.ts";

/** Annotations. Callers cannot use what begins with the prefix. */
export const MARKS = {
  prefix: "management.quasaur.dev/",
  remove: "management.quasaur.dev/remove",
  startOnAttach: "management.quasaur.dev/start-on-attach",
} as const;

/** On every sandbox that was made without containerd. */
export const OWN_ANNOTATIONS: Readonly<Record<string, string>> = { [MANAGED_ANNOTATION]: "true" };

/** The annotation of a container that says how its image is called. */
export const IMAGE_ANNOTATION = "quasaur.dev/image";

/** Whether a sandbox is removed once it has ended. */
export function isRemoved({ annotations }: SandboxSpec): boolean {
  return annotations[MARKS.remove] === "true";
}

/** Whether the first Attach starts it. */
export function startsOnAttach({ annotations }: SandboxSpec): boolean {
  return annotations[MARKS.startOnAttach] === "true";
}

/** What the ids begin with of processes that were started through this API. */
const EXEC_PREFIX = "quasaur-exec-";

/** An id for a process. */
export function newExecId(): string {
  return `${EXEC_PREFIX}${randomHex(8)}`;
}

/** Whether a process was started through this API, by a sandboxer that may be gone. */
export function isOwnExec(execId: string): boolean {
  return execId.startsWith(EXEC_PREFIX);
}

/** An id for a sandbox or container. */
export function newRunId(): string {
  return randomHex(16);
}

function randomHex(digits: number): string {
  return crypto.getRandomValues(new Uint8Array(digits / 2)).toHex();
}
