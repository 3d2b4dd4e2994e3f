/**
 * The error that the agent's request handlers throw: a code that the host understands, and a
 * message. Small, as it is part of the agent.
 *
 * @module
 */

import type { AgentErrorCode } from "./messages.ts";

/** A failure with a code. The message starts with the failed action, in lower case. */
export class AgentError extends Error {
  /** The name shown in stack traces. */
  override readonly name = "AgentError";

  /**
   * Makes an error.
   *
   * @param code What kind of failure.
   * @param message The failed action first; no full stop.
   */
  constructor(readonly code: AgentErrorCode, message: string) {
    super(message);
  }
}
