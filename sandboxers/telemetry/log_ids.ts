/**
 * Which sandbox and which container a record of the log belongs to: those of the operation that it
 * was written in, also where who writes it does not know them.
 *
 * @module
 */

import { AsyncLocalStorage } from "node:async_hooks";
import type { Operation } from "../lifecycle/observer.ts";
import type { LogFields } from "../log.ts";

const current = new AsyncLocalStorage<LogFields>();

/**
 * Does an operation; records that are written meanwhile, or by what it has begun, belong to it.
 *
 * @param operation Which one.
 * @param run Does it.
 */
export function withLogIds<T>(
  { sandboxId, containerId, execId }: Operation,
  run: () => Promise<T>,
): Promise<T> {
  return current.run({
    ...(sandboxId === "" ? {} : { sandbox: sandboxId }),
    ...(containerId === undefined ? {} : { container: containerId }),
    ...(execId === undefined || execId === "" ? {} : { exec: execId }),
  }, run);
}

/** The fields of what runs now; undefined outside of any operation. */
export function logIds(): LogFields | undefined {
  return current.getStore();
}
