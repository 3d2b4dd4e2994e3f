/**
 * The streams of processes as containers need them: opened before a process is made, so that the
 * agent can be told their numbers, and found again after a restart of the sandboxer.
 *
 * @module
 */

import type { GuestStdio } from "../../guest/protocol/messages.ts";
import type { StdioSpec } from "../lifecycle/spec.ts";
import type { ProcessStreams } from "./process.ts";

/** The streams of one process, and what the guest is told of them. */
export interface OpenStreams {
  /** For the guest. */
  readonly guest: GuestStdio;
  /** The host's ends. */
  readonly streams: ProcessStreams;
}

/** Opens streams over the connection to one guest. */
export interface Streams {
  /**
   * Opens the streams of a process that is about to be made.
   *
   * @param stdio Where they go.
   * @param label Whose they are, for messages.
   */
  open(stdio: StdioSpec, label: string): OpenStreams;
  /**
   * Takes over the streams of a process that an earlier sandboxer had made.
   *
   * @param stdio Where they go.
   * @param guest Their numbers in the guest.
   */
  adopt(stdio: StdioSpec, guest: GuestStdio, label: string): ProcessStreams;
}
