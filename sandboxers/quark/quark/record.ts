/**
 * What the next sandboxer has to know of a pod.
 *
 * @module
 */

import type { ProcessIdentity } from "../../host/launcher.ts";
import type { Json } from "../../lifecycle/spec.ts";
import { isObject } from "../../oci/json.ts";

/** What is stored of a pod; its places follow from its id. */
export interface PodRecord {
  /** Quark's process. */
  readonly kernel: ProcessIdentity;
  /** Its cgroup below each hierarchy's root; empty for none. */
  readonly cgroup: string;
}

/**
 * Reads a record.
 *
 * @returns Undefined for what is none, such as null.
 */
export function readRecord(record: Json): PodRecord | undefined {
  if (!isObject(record)) return undefined;
  const { kernel, cgroup } = record;
  if (!isObject(kernel) || typeof cgroup !== "string") return undefined;
  const { pid, startTime } = kernel;
  if (typeof pid !== "number" || typeof startTime !== "number") return undefined;
  return { kernel: { pid, startTime }, cgroup };
}
