/**
 * The agent in a guest, as far as pods and containers need it.
 *
 * @module
 */

import type { RequestName, Requests } from "../../guest/protocol/messages.ts";

/** Asks the agent. */
export interface Agent {
  /**
   * Asks, and waits for the answer for a bounded time.
   *
   * @param name What for.
   * @param args The arguments.
   * @throws {SandboxError} What the agent answers with; `Unavailable` where it does not answer.
   */
  request<K extends RequestName>(
    name: K,
    args: Requests[K]["args"],
    options?: { readonly signal?: AbortSignal; readonly timeoutMs?: number },
  ): Promise<Requests[K]["result"]>;
}
