/**
 * What calls to Quark's task service have in common.
 *
 * @module
 */

import { Task } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { JsonObject } from "../../oci/json.ts";
import type { TaskConnection } from "./task_connection.ts";

/** How long Quark may take to give up what nobody waits for any more, in milliseconds. */
export const GIVE_UP_MS = 5_000;
const SIGKILL = 9;

/**
 * Has Quark forget a container, or an exec, that nobody waits for any more. Never throws.
 *
 * @param pod Its pod.
 * @param request Which one; an empty exec id for the container.
 */
export async function giveUp(
  pod: { readonly tasks: TaskConnection; readonly over: boolean },
  request: { readonly id: string; readonly execId: string },
): Promise<void> {
  if (pod.over) return;
  const options = { timeoutMs: GIVE_UP_MS };
  const kill = { ...request, signal: SIGKILL, all: request.execId === "" };
  await pod.tasks.call(Task.method.kill, kill, options).catch(() => undefined);
  await pod.tasks.call(Task.method.delete, request, options).catch(() => undefined);
}

/**
 * A part of an OCI configuration as containerd puts it into messages.
 *
 * @param type Such as `Process`.
 * @param value The part.
 */
export function ociAny(
  type: string,
  value: JsonObject,
): { readonly typeUrl: string; readonly value: Uint8Array<ArrayBuffer> } {
  return {
    typeUrl: `types.containerd.io/opencontainers/runtime-spec/1/${type}`,
    value: new TextEncoder().encode(JSON.stringify(value)),
  };
}

/**
 * Waits, but not for ever.
 *
 * @param work What for.
 * @param timeoutMs How long, in milliseconds.
 * @param message What is said when it takes longer.
 * @throws {SandboxError} `DeadlineExceeded`, or what the work throws.
 */
export async function within(
  work: Promise<unknown>,
  timeoutMs: number,
  message: string,
): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new SandboxError("DeadlineExceeded", `${message}: not within ${timeoutMs} ms`)),
    timeoutMs,
  );
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
