/**
 * The calls that are being served: each gets a signal that fires when its caller gives up or the
 * server is about to go, and nothing of it stays once it is answered.
 *
 * @module
 */

import type { CancellableCall } from "../../proto/grpc_service.ts";
import type { SandboxError } from "../lifecycle/errors.ts";

/** The open calls of one server. */
export class OpenCalls {
  readonly #open = new Set<AbortController>();

  /** How many are open now. */
  get size(): number {
    return this.#open.size;
  }

  /**
   * Opens a call; disposing of it closes it.
   *
   * @param call From grpc-js, which tells of cancellations and deadlines with the same event.
   * @returns Its signal, aborted with an `AbortError`, a `TimeoutError` (deadline) or what
   *   {@link abort} was given.
   */
  open(call: CancellableCall): Disposable & { readonly signal: AbortSignal } {
    const controller = new AbortController();
    const abort = () => controller.abort(abortReason(call));
    this.#open.add(controller);
    if (call.cancelled) abort();
    else call.once("cancelled", abort);
    return {
      signal: controller.signal,
      [Symbol.dispose]: () => {
        this.#open.delete(controller);
        call.off("cancelled", abort);
      },
    };
  }

  /** Makes all open calls give up. */
  abort(reason: SandboxError): void {
    for (const controller of this.#open) controller.abort(reason);
  }
}

function abortReason(call: CancellableCall): DOMException {
  return Date.now() >= Number(call.getDeadline())
    ? new DOMException("deadline exceeded", "TimeoutError")
    : new DOMException("cancelled", "AbortError");
}
