/**
 * What Quark's pods are composed of; `sandboxers/quark/open.ts` makes it from the configuration.
 *
 * @module
 */

import type { FifoKeeper } from "../../host/fifo_holder.ts";
import type { Launcher } from "../../host/launcher.ts";
import type { HostMounter } from "../../host/mounter.ts";
import type { Observer } from "../../lifecycle/observer.ts";
import type { Log } from "../../log.ts";

/** What {@link import("./kernel.ts").Quark} works with. */
export interface QuarkOptions {
  /** The host launcher: it starts the program, and knows its processes. */
  readonly launcher: Launcher;
  /** Shows containers' files below a pod's directory. */
  readonly mounter: Pick<HostMounter, "bind" | "share" | "unmountAll">;
  /** Connects to a unix socket below the state directory; see Gate. */
  connect(path: string): Promise<Deno.UnixConn>;
  /**
   * The directory of the pods' directories, an absolute path below the state directory; made where it
   * is missing. Short, as sockets lie in it.
   */
  readonly podDirectory: string;
  /** The program, an absolute path. Root owns it and all above it, and nobody else can write there. */
  readonly program: string;
  /** Quark's own configuration. */
  readonly configPath: string;
  /** How long a sandbox may take until its task service answers, in milliseconds. */
  readonly readyMs: number;
  /** Holds FIFOs beyond this process; undefined where pods do not outlive it. */
  readonly holder?: FifoKeeper | undefined;
  /** Whether pods and what they hold go on when this process ends. Default yes. */
  readonly outlivesSandboxer?: boolean;
  /** Hears of the phases of starts; missing for nobody. */
  readonly observer?: Observer;
  /** Where notes go. */
  readonly log: Log;
}
