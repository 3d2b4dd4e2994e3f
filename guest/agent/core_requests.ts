/**
 * The requests that concern no container's making: who is there, and the processes that the host
 * knows by name.
 *
 * @module
 */

import {
  AGENT_ERROR_CODES,
  type AgentErrorCode,
  type Hello,
  PROTOCOL_VERSION,
  type RequestName,
} from "../protocol/messages.ts";
import { AgentError } from "../protocol/agent_error.ts";
import type { RequestHandler, RequestHandlers } from "../protocol/peer.ts";
import type { Agent } from "./agent.ts";
import * as sys from "./sys.js";

/** The agent's own version. */
const AGENT_VERSION = "0.1.0";

/**
 * Says who the agent is.
 *
 * @param warnings What went wrong while the guest came up.
 */
export function helloOf(warnings: readonly string[]): Hello {
  return {
    protocol: PROTOCOL_VERSION,
    agent: AGENT_VERSION,
    kernel: sys.uname().release,
    warnings,
  };
}

/**
 * The handlers of this module.
 *
 * @param agent What they work on.
 */
export function coreRequests(agent: Agent): RequestHandlers {
  const hello = helloOf(agent.warnings);
  return {
    hello: () => hello,
    acknowledgeExit: (name) => {
      agent.processes.acknowledge(name);
      return {};
    },
    resize: ({ columns, rows, ...name }) => {
      agent.processes.get(name).stdio.resize(columns, rows);
      return {};
    },
  };
}

/**
 * Handlers whose every failure is one that the host understands.
 *
 * @param handlers Handlers that may throw anything.
 */
export function withFailures(handlers: RequestHandlers): RequestHandlers {
  const safe: Partial<Record<RequestName, (args: never) => unknown>> = {};
  for (const [name, handler] of Object.entries(handlers)) {
    // Not async itself: most answers are there at once, and each turn of the loop costs.
    safe[name as RequestName] = (args: never) => {
      try {
        const result: unknown = (handler as RequestHandler<RequestName>)(args);
        return result instanceof Promise ? result.catch(fail) : result;
      } catch (thrown) {
        return fail(thrown);
      }
    };
  }
  return safe as RequestHandlers;
}

function fail(thrown: unknown): never {
  throw failureOf(thrown);
}

/**
 * Turns whatever a handler threw into an error that the host understands.
 *
 * @param thrown What was caught; an error with one of the protocol's codes keeps it.
 */
export function failureOf(thrown: unknown): AgentError {
  if (thrown instanceof AgentError) return thrown;
  if (!(thrown instanceof Error)) return new AgentError("Internal", String(thrown));
  const code: unknown = Reflect.get(thrown, "code");
  const known = AGENT_ERROR_CODES.find((each: AgentErrorCode) => each === code);
  // An error without a code is a mistake of the agent's own: its place helps to find it.
  const place = known === undefined ? ` (${firstLine(thrown.stack)})` : "";
  return new AgentError(known ?? "Internal", `${thrown.message}${place}`);
}

function firstLine(stack: string | undefined): string {
  return stack?.trim().split("\n", 1)[0]?.trim() ?? "no stack";
}
