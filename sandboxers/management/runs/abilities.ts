/**
 * What a kind of sandbox gives so that sandboxes can be made without containerd: FIFOs, the network
 * of who asks for none, a cgroup, and snapshots where it has them.
 *
 * @module
 */

import type { FifoKeeper } from "../../host/fifo_holder.ts";
import type {
  DnsSpec,
  NetworkSpec,
  ResourceSpec,
  RootfsSpec,
  SandboxSpec,
} from "../../lifecycle/spec.ts";

/** Makes FIFOs: Deno has no call for it. */
export interface FifoMaker {
  /**
   * Makes FIFOs that only this user can open. Where one cannot be made none is.
   *
   * @param paths Where: absolute paths where nothing is yet, at most 16.
   * @throws {SandboxError} Where one cannot be made.
   */
  make(paths: readonly string[]): Promise<void>;
}

/** The cgroups of sandboxes that nobody else made one for. */
export interface RunCgroups {
  /** The cgroup above that of a sandbox, below each hierarchy's root. */
  parentOf(sandboxId: string): string;
  /** Removes a cgroup with those below it; succeeds where there is none. */
  remove(cgroup: string): Promise<void>;
}

/** The environment of Linux processes: where programs are looked for, as container tools have it. */
export const LINUX_ENV: readonly string[] = [
  "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
];

/** What a kind gives so that sandboxes can be made without containerd. */
export interface RunAbilities {
  /** Makes the FIFOs of their streams. */
  readonly fifos: FifoMaker;
  /** Holds FIFOs while no sandboxer is there; missing where nothing outlives it. */
  readonly keeper?: FifoKeeper;
  /** The network of a sandbox that asks for none. */
  readonly network: NetworkSpec;
  /** How names are looked up behind the address translation of a `user` network. */
  readonly userDns?: DnsSpec;
  /** Missing where limits are kept without. */
  readonly cgroups?: RunCgroups;
  /**
   * What a sandbox may write over a template, in bytes of memory; missing where the kind keeps that
   * itself, and where only the file system of the state directory is a bound.
   */
  readonly layerBytesMax?: number;
  /** Environment of every process that does not say otherwise, as `NAME=value`. */
  readonly env: readonly string[];
}

/** A snapshot to take. */
export interface SnapshotOrder {
  /** The sandbox, which runs. */
  readonly sandboxId: string;
  /** Where nothing is yet, an absolute path. */
  readonly directory: string;
  /** Fires when the caller gives up. */
  readonly signal: AbortSignal;
}

/** A container in a snapshot. */
export interface SavedContainer {
  /** The id that it had. */
  readonly id: string;
  /** The command of its first process. */
  readonly args: readonly string[];
  /** Its root file system, where that is not in the snapshot; missing for one that is. */
  readonly rootfs?: RootfsSpec;
  /** Whether it may not write to that; missing for no. */
  readonly readonlyRootfs?: boolean;
  /** Its limits, where they are not those of the sandbox. */
  readonly resources?: ResourceSpec;
  /** Which streams that has. */
  readonly streams: {
    readonly stdin: boolean;
    readonly stdout: boolean;
    readonly stderr: boolean;
    readonly terminal: boolean;
  };
}

/** A snapshot that can be made a sandbox. */
export interface SavedSandbox {
  /** What of a sandbox it has. */
  readonly spec: Pick<SandboxSpec, "hostname" | "network"> & { readonly resources: ResourceSpec };
  /** Its containers, in the order in which they were made. */
  readonly containers: readonly SavedContainer[];
  /**
   * Has the start of a sandbox be one of this snapshot.
   *
   * @param spec The sandbox: this very object will be started.
   * @param ids New ids of the containers, by those that they had.
   */
  startAs(spec: SandboxSpec, ids: ReadonlyMap<string, string>): void;
}

/** Snapshots, where a kind has them. */
export interface SnapshotAbilities {
  /** Where snapshots are best written to: an absolute path, which may be missing yet. */
  readonly directory: string;
  /**
   * Saves a running sandbox with its memory, which then goes on.
   *
   * @throws {SandboxError} With what stands against it; nothing is left then.
   */
  take(order: SnapshotOrder): Promise<void>;
  /**
   * Reads a snapshot.
   *
   * @param directory Where it was written to.
   * @throws {SandboxError} `NotFound` where there is none, `FailedPrecondition` where it is damaged.
   */
  read(directory: string): Promise<SavedSandbox>;
}
