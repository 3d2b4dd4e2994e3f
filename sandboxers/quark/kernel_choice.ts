/**
 * Which application kernel a sandbox gets, and which one an earlier sandboxer had given it.
 *
 * @module
 */

import type { Json, SandboxSpec } from "../lifecycle/spec.ts";
import { APP_KERNELS, type AppKernelName } from "./app_kernel.ts";

/** What is stored of a sandbox: its kernel, and what that kernel has to say. */
export interface KernelRecord {
  /** The kernel. */
  readonly kernel: AppKernelName;
  /** What its handle left. */
  readonly record: Json;
}

/**
 * The kernel that a sandbox asks for: the one whose name is in containerd's runtime type.
 *
 * @param spec The sandbox.
 * @returns Undefined where it names none.
 */
export function wantedKernel({ runtime }: SandboxSpec): AppKernelName | undefined {
  // A handler of both names, such as quasaur-quark-gvisor, is the sandboxer's with a kernel.
  return APP_KERNELS.find((name) => runtime?.toLowerCase().includes(name));
}

/** A record as it is stored. */
export function storedRecord({ kernel, record }: KernelRecord): Json {
  return { kernel, record };
}

/**
 * Reads a record back.
 *
 * @returns Undefined for what {@link storedRecord} did not make, such as null.
 */
export function readRecord(stored: Json): KernelRecord | undefined {
  if (typeof stored !== "object" || stored === null || !("kernel" in stored)) return undefined;
  const kernel = APP_KERNELS.find((name) => name === stored.kernel);
  const { record } = stored;
  return kernel === undefined || record === undefined ? undefined : { kernel, record };
}
