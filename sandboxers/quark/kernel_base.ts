/**
 * What all application kernels are made with.
 *
 * @module
 */

import type { FifoHolder } from "../host/fifo_holder.ts";
import type { Launcher } from "../host/launcher.ts";
import type { HostMounter } from "../host/mounter.ts";
import type { Observer } from "../lifecycle/observer.ts";
import type { Log } from "../log.ts";
import type { QuarkConfig } from "./config/config.ts";

/** What all application kernels are made with. */
export interface KernelBase {
  /** The configuration. */
  readonly config: QuarkConfig;
  /** A directory of this kernel's own, an absolute path that is short, as sockets lie below it. */
  readonly directory: string;
  /** The directory of what was found out of this host. */
  readonly sharedDirectory: string;
  /** The host launcher. */
  readonly launcher: Launcher;
  /** Mounts for pods. */
  readonly mounter: HostMounter;
  /** Connects to a unix socket below the state directory. */
  readonly connect: (path: string) => Promise<Deno.UnixConn>;
  /** Holds FIFOs beyond this process; undefined where sandboxes do not outlive it. */
  readonly holder: FifoHolder | undefined;
  /** Whether sandboxes outlive this process. */
  readonly outlivesSandboxer: boolean;
  /** Hears of the phases of starts. */
  readonly observer: Observer;
  /** Where notes go. */
  readonly log: Log;
}
