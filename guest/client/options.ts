/**
 * How a host talks to an agent: where, for how long, and who is told of what.
 *
 * @module
 */

import type { AgentEvent } from "../protocol/messages.ts";
import type { SocketConn } from "./socket_transport.ts";

/** Takes notes; each call may bring facts. */
export interface ClientLog {
  /** What only a developer wants to know. */
  debug(message: string, fields?: Readonly<Record<string, unknown>>): void;
  /** What was survived. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** How an agent is watched. */
export interface Heartbeat {
  /** How often it is asked whether it is there, in milliseconds. */
  readonly everyMs: number;
  /** How long it may be silent, in milliseconds; a few times `everyMs`. */
  readonly answerMs: number;
}

/** Bounded for a guest that is emulated on a busy machine. */
export const DEFAULT_HEARTBEAT: Heartbeat = { everyMs: 5_000, answerMs: 30_000 };

/** How long a request may take, in milliseconds. */
export const DEFAULT_REQUEST_TIMEOUT_MS = 120_000;

/** How long the agent's socket may be gone, in milliseconds. */
export const DEFAULT_RECONNECT_MS = 5_000;

/** Options of `AgentClient.connect`. */
export interface AgentClientOptions {
  /** Connects to a unix socket. Default: as this process may. */
  readonly connect?: (path: string) => Promise<SocketConn>;
  /** The agent's socket, an absolute path; it may appear later. */
  readonly path: string;
  /** How long the agent may take until it is ready, in milliseconds. */
  readonly timeoutMs: number;
  /** Gives up. */
  readonly signal?: AbortSignal;
  /** Takes notes. */
  readonly log?: ClientLog;
  /** Takes events, in order, from the first on; must not throw. */
  readonly onEvent?: (event: AgentEvent) => void;
  /** How it is watched; see {@link DEFAULT_HEARTBEAT}. */
  readonly heartbeat?: Heartbeat;
  /** See {@link DEFAULT_RECONNECT_MS}. */
  readonly reconnectMs?: number;
  /**
   * Whether an earlier process may have been cut off in the middle of something: it then takes a
   * little longer to begin when it was not, and a quarter of a second less when it was.
   */
  readonly adopt?: boolean;
}
