/**
 * Turns Ctrl-C and its relatives into an aborted signal, so that a run that is given up still cleans
 * up behind itself.
 *
 * @module
 */

import { SandboxError } from "../sandboxers/lifecycle/errors.ts";

/** The signals that ask a program to end. */
const SIGNALS: readonly Deno.Signal[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** Listens until it is disposed of. */
export interface Interruption extends Disposable {
  /** Aborted by the first signal that asks this process to end. */
  readonly signal: AbortSignal;
}

/** Starts to listen. Until it is disposed of, such signals do not end the process by themselves. */
export function interruption(): Interruption {
  const controller = new AbortController();
  const abort = (): void =>
    controller.abort(new SandboxError("Cancelled", "interrupted; everything is cleaned up"));
  for (const signal of SIGNALS) Deno.addSignalListener(signal, abort);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const signal of SIGNALS) Deno.removeSignalListener(signal, abort);
    },
  };
}
