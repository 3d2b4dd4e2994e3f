/**
 * The states of the management API in words, for programs that show them.
 *
 * @module
 */

import type {
  ProcessState,
  SandboxState,
} from "../../proto/gen/quasaur/management/v1/management_pb.ts";

/** By number; the first is for one that this version does not know. */
const SANDBOX_STATE_NAMES: readonly SandboxStateName[] = [
  "unknown",
  "created",
  "starting",
  "ready",
  "stopping",
  "stopped",
  "failed",
];

const PROCESS_STATE_NAMES: readonly ProcessStateName[] = [
  "unknown",
  "created",
  "running",
  "paused",
  "stopped",
];

/** The state of a sandbox in a word; `unknown` for one that this version does not know. */
export type SandboxStateName =
  | "unknown"
  | "created"
  | "starting"
  | "ready"
  | "stopping"
  | "stopped"
  | "failed";

/** The state of a container or process in a word; `unknown` for one that this version does not know. */
export type ProcessStateName = "unknown" | "created" | "running" | "paused" | "stopped";

/**
 * The state of a sandbox in a word.
 *
 * @param state As a message has it.
 */
export function sandboxStateName(state: SandboxState): SandboxStateName {
  return SANDBOX_STATE_NAMES[state] ?? "unknown";
}

/**
 * The state of a container or process in a word.
 *
 * @param state As a message has it.
 */
export function processStateName(state: ProcessState): ProcessStateName {
  return PROCESS_STATE_NAMES[state] ?? "unknown";
}
