/**
 * What the parts of the agent share: the table of processes, the streams to the host, and a way to
 * tell the host something. Made once by `main.ts` and handed to those who answer requests.
 *
 * @module
 */

import type { AgentEvent } from "../protocol/messages.ts";
import type { GuestPeer } from "../protocol/peer.ts";
import type { ProcessTable } from "./exits.ts";
import type { StreamOpener } from "./stdio.ts";

/** See the module. */
export interface Agent {
  /** Opens streams to the host; for `ProcessStdio`. */
  readonly streams: StreamOpener & Pick<GuestPeer, "lastStream">;
  /** The processes that the host knows by name. */
  readonly processes: ProcessTable;
  /** What went wrong while the guest came up and was survived. */
  readonly warnings: readonly string[];
  /**
   * Tells the host something.
   *
   * @returns Whether it was taken; not where no host has connected yet.
   */
  tell(event: AgentEvent): boolean;
}
