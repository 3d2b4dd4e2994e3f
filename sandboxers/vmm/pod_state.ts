/**
 * What is known of a pod beyond the lifecycle's record, in a file of its directory: its guest, which
 * may be replaced after the record was written.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { Json } from "../lifecycle/spec.ts";

const FILE = "guest.json";

/** What is known of a pod. */
export interface PodState {
  /** What is needed to find its guest. */
  readonly guest: Json;
  /** Whether its guest may be replaced by one with a shared tree. */
  readonly mayShare: boolean;
  /** Whether it has ever had a container. */
  readonly isUsed: boolean;
}

/**
 * Writes it down; what was there before is replaced in one step.
 *
 * @param directory The pod's directory.
 * @throws {SandboxError} `ResourceExhausted` where the disk is full.
 */
export async function writePodState(directory: string, state: PodState): Promise<void> {
  const path = `${directory}/${FILE}`;
  try {
    await Deno.writeTextFile(`${path}.new`, JSON.stringify(state), { mode: 0o600 });
    await Deno.rename(`${path}.new`, path);
  } catch (error) {
    throw SandboxError.from(error, `cannot write "${path}"`);
  }
}

/**
 * Reads it.
 *
 * @returns Undefined where there is none: the guest was never ready.
 * @throws {SandboxError} `DataLoss` where it cannot be understood.
 */
export async function readPodState(directory: string): Promise<PodState | undefined> {
  const path = `${directory}/${FILE}`;
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw SandboxError.from(error, `cannot read "${path}"`);
  }
  try {
    const state: { guest: Json; mayShare: unknown; isUsed: unknown } = JSON.parse(text);
    const { guest, mayShare, isUsed } = state;
    return { guest, mayShare: mayShare === true, isUsed: isUsed !== false };
  } catch (error) {
    throw new SandboxError("DataLoss", `cannot understand "${path}"`, { cause: error });
  }
}
