/**
 * What gVisor's pods are composed of; `sandboxers/quark/open.ts` makes it from the configuration.
 *
 * @module
 */

import type { SourceMounter } from "../../host/bound_sources.ts";
import type { AnswerKeeper, FifoKeeper } from "../../host/fifo_holder.ts";
import type { Launcher } from "../../host/launcher.ts";
import type { Observer } from "../../lifecycle/observer.ts";
import type { NetworkSpec } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import type { Connect } from "./control_call.ts";
import type { Runsc } from "./runsc.ts";

/** What the calls for one pod have in common beyond those for all. */
export interface PodRunsc {
  /** Which network it asks for. */
  readonly network: NetworkSpec["kind"];
  /** Whether it has no cgroup of its own. */
  readonly ignoresCgroups: boolean;
}

/** What {@link import("./kernel.ts").Gvisor} works with. */
export interface GvisorOptions {
  /** The host launcher. */
  readonly launcher: Launcher;
  /** Mounts and unmounts. */
  readonly mounter: SourceMounter;
  /**
   * Calls runsc for a pod, in the way that works on this host; all with the same root directory.
   * Pods that run are taken over without.
   *
   * @param pod See {@link PodRunsc}.
   * @throws {SandboxError} `FailedPrecondition` where runsc is missing or cannot run here, with what
   *   to do.
   */
  runsc(pod: PodRunsc): Promise<Runsc>;
  /**
   * runsc's root directory, an absolute path below the state directory: short, as sockets lie in it.
   */
  readonly root: string;
  /** The state directory of the sandboxer, an absolute path: what is below goes with sandboxes. */
  readonly stateDirectory: string;
  /** The directory of the pods' directories, an absolute path; made where it is missing. */
  readonly podDirectory: string;
  /** A root file system with nothing in it but `/pause`, a program that waits for ever. */
  readonly pauseRoot: string;
  /** Whether containers that have CAP_NET_RAW may use it. */
  readonly rawSockets: boolean;
  /** Connects to a unix socket below the state directory; see Gate. */
  readonly connect: Connect;
  /** Holds FIFOs beyond this process; undefined where pods do not outlive it. */
  readonly holder?: (FifoKeeper & AnswerKeeper) | undefined;
  /** Whether pods and what they hold go on when this process ends. Default yes. */
  readonly outlivesSandboxer?: boolean;
  /** Hears of the phases of starts; missing for nobody. */
  readonly observer?: Observer;
  /** Where notes go. */
  readonly log: Log;
}
