/**
 * What a sandboxer process is made of, whatever its kind.
 *
 * @module
 */

import type { Sandboxer } from "./lifecycle/sandboxer.ts";
import type { Log } from "./log.ts";
import type { Composed } from "./management/ports.ts";
import type { MetricsAddress } from "./telemetry/address.ts";
import type { Telemetry } from "./telemetry/telemetry.ts";

/** What a sandboxer process is made of. */
export interface ServeOptions {
  /**
   * The lifecycle, with the driver of the kind; or what makes it, which is called when no other
   * process has the state directory and the sockets.
   */
  readonly sandboxer:
    | Sandboxer
    | (() => Sandboxer | Composed | Promise<Sandboxer | Composed>);
  /** The Sandbox API's socket, an absolute path. */
  readonly listen: string;
  /** The Task API's socket, an absolute path. */
  readonly taskListen: string;
  /** The state directory, an absolute path; no other process may use it. */
  readonly dir: string;
  /** containerd's ttrpc socket for events, an absolute path; undefined where events are off. */
  readonly containerdEvents: string | undefined;
  /**
   * How long a sandbox may wait for its start after it was created, in seconds, before it is deleted;
   * 0 for ever.
   */
  readonly unstartedSecondsMax: number;
  /** How long calls under way may take to end when the process leaves, in seconds; default 10. */
  readonly drainSeconds?: number;
  /**
   * How long callers are kept waiting for the next process where this one goes while it has sandboxes,
   * in seconds; 0, or without a launcher: they are refused.
   */
  readonly holdSeconds?: number;
  /** The native launcher, for what outlives this process; missing where there is none. */
  readonly launcher?: string;
  /** Hears of everything; missing for nobody. */
  readonly telemetry?: Telemetry;
  /** Where metrics are read; missing where they are off. */
  readonly metrics?: MetricsAddress | undefined;
  /** Most pods with metrics of their own; missing for none. */
  readonly metricsPodsMax?: number;
  /** Where the process tells what it does. */
  readonly log: Log;
}
