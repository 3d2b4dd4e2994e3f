/**
 * What the lifecycle and the drivers tell about their work while they do it: operations with their
 * outcome, and the phases that an operation's time went to. Metrics and traces are made of it
 * elsewhere; without anybody who listens it costs next to nothing.
 *
 * @module
 */

/** What is done to sandboxes, containers and processes. */
export const OPERATIONS = [
  "sandbox_create",
  "sandbox_start",
  "sandbox_stop",
  "sandbox_delete",
  "container_create",
  "container_start",
  "container_delete",
  "exec_start",
] as const;

/** One of {@link OPERATIONS}. */
export type OperationName = typeof OPERATIONS[number];

/** An operation that is about to be done. */
export interface Operation {
  /** What is done. */
  readonly name: OperationName;
  /** The sandbox that it is done to, or in; empty where it is not known. */
  readonly sandboxId: string;
  /** The container that it is done to. */
  readonly containerId?: string;
  /** The exec that it is done to. */
  readonly execId?: string;
}

/** Hears of operations and their phases. */
export interface Observer {
  /**
   * Does an operation, and takes note of how long it took and how it ended.
   *
   * @param operation Which one.
   * @param run Does it; called once.
   * @returns What it gives; it rejects with what that rejects with.
   */
  operation<T>(operation: Operation, run: () => Promise<T>): Promise<T>;
  /**
   * Takes note of a phase of an operation that has ended well. It is called from within the operation.
   *
   * @param operation The operation.
   * @param phase What it is called, such as `machine`.
   * @param sinceMs When it began, by `performance.now()`.
   * @param untilMs When it ended; now unless given.
   */
  phase(operation: OperationName, phase: string, sinceMs: number, untilMs?: number): void;
}

/** An observer that takes note of nothing. */
export const noObserver: Observer = {
  operation: (_operation, run) => run(),
  phase: () => undefined,
};
