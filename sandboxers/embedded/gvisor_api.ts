/**
 * The interfaces that programs see of gVisor in their own process: a sandboxer, its sandboxes, each of
 * which has an application kernel of its own, and their containers.
 *
 * @module
 */

import type { NetworkSpec, Stats } from "../lifecycle/spec.ts";
import type { OpenOptions, StdioMode } from "./api.ts";
import type { LinuxContainer, LinuxRunOptions } from "./linux_api.ts";

/** Options of `open("gvisor")`. */
export interface GvisorOpenOptions extends Pick<OpenOptions, "images" | "onWarning"> {
  /** The configuration file. Default: `/etc/quasaur/quark.toml`, where that is there. */
  readonly config?: string;
  /** Settings that go before those of the file, as TOML: `gvisor.platform="ptrace"`. */
  readonly set?: readonly string[];
  /** Where sandboxes have their files while they run. Default: `/run/quasaur/cli-gvisor`. */
  readonly directory?: string;
}

/** Runs sandboxes of gVisor. Disposing of it ends everything that it runs. */
export interface GvisorSandboxer extends AsyncDisposable {
  /** The kind that was opened. */
  readonly kind: "gvisor";
  /**
   * Creates and starts a sandbox: an application kernel without a container.
   *
   * @throws {SandboxError} `AlreadyExists` for an id in use; `InvalidArgument`; `Cancelled`;
   *   `FailedPrecondition` where runsc cannot run here, and after disposal.
   */
  createSandbox(options?: GvisorSandboxOptions): Promise<GvisorSandbox>;
  /**
   * Makes a sandbox of a snapshot: the same containers go on in it where they were, with new streams.
   * A snapshot is made of as often as is wanted, and can be removed once the call is done; the root
   * file systems of its containers have to be where they were. It has to be of this host's runsc, and
   * from somebody who is trusted like a program.
   *
   * ```ts ignore
   * await using sandboxer = await open("gvisor", { set: ['gvisor.overlay="memory"'] });
   * await using sandbox = await sandboxer.restore("/var/lib/warm");
   * const [container] = sandbox.containers.values();
   * ```
   *
   * @param directory What {@link GvisorSandbox.snapshot} wrote.
   * @throws {SandboxError} `NotFound` where there is no snapshot; `FailedPrecondition` where it is
   *   damaged, of another runsc or another `gvisor.overlay`, and after disposal; `AlreadyExists`;
   *   `Cancelled`; what runsc says.
   */
  restore(directory: string, options?: GvisorRestoreOptions): Promise<GvisorRestoredSandbox>;
}

/** Options of {@link GvisorSandboxer.restore} and {@link GvisorSandbox.fork}. */
export interface GvisorRestoreOptions extends Pick<GvisorSandboxOptions, "id" | "signal"> {
  /**
   * Where the streams of the containers' first processes go, as far as they had any. Default
   * `piped`.
   */
  readonly streams?: Exclude<StdioMode, "null">;
}

/** Options of {@link GvisorSandbox.snapshot}. */
export interface GvisorSnapshotOptions {
  /** Aborting it gives the snapshot up. */
  readonly signal?: AbortSignal;
}

/** Options of {@link GvisorSandboxer.createSandbox}. */
export interface GvisorSandboxOptions {
  /** Unique in its sandboxer: letters, digits, `.`, `_`, `-`. Default: made up. */
  readonly id?: string;
  /** What it reaches: nothing (the default), what the host reaches, or a network namespace by path. */
  readonly network?: Exclude<NetworkSpec, { readonly kind: "user" }>;
  /** CPUs that it may use, also a part of one. Default: all. */
  readonly cpus?: number;
  /** Memory that it may use, in bytes. Default: no limit. */
  readonly memoryBytes?: number;
  /** The hostname inside. Default: the host's. */
  readonly hostname?: string;
  /** Aborting it gives the start up. */
  readonly signal?: AbortSignal;
}

/** A started sandbox. Disposing of it ends its containers and releases everything. */
export interface GvisorSandbox extends AsyncDisposable {
  /** Its id. */
  readonly id: string;
  /**
   * Runs a command in a container of its own.
   *
   * @throws {SandboxError} `InvalidArgument` for a bad option or root file system, `NotFound` where
   *   that is missing, `AlreadyExists` for an id in use, `Cancelled` on abort, `FailedPrecondition`
   *   after disposal, or what gVisor reports.
   */
  run(options: GvisorRunOptions): Promise<LinuxContainer>;
  /** What the sandbox uses now. */
  stats(): Promise<Stats>;
  /**
   * Saves it with its memory: what runs in it stands still meanwhile, and goes on. Root file systems
   * are not in it: containers must either have a read-only one, or keep what they write in memory
   * (`gvisor.overlay="memory"`).
   *
   * @param directory Where to: it is made.
   * @throws {SandboxError} `AlreadyExists` where something is there; `FailedPrecondition` for what
   *   runsc cannot save or bring back: a network other than none, files of the host, terminals,
   *   processes beside the first one of a container, paused and ended containers, root file systems
   *   on the host that can be written to; `ResourceExhausted` where the disk is full; `Cancelled`.
   *   Nothing is left of it then.
   */
  snapshot(directory: string, options?: GvisorSnapshotOptions): Promise<void>;
  /**
   * Makes another sandbox that goes on from here by itself, as {@link GvisorSandbox.snapshot} and
   * {@link GvisorSandboxer.restore} would.
   *
   * @throws {SandboxError} What these do.
   */
  fork(options?: GvisorRestoreOptions): Promise<GvisorRestoredSandbox>;
}

/** A sandbox that was made of a snapshot. */
export interface GvisorRestoredSandbox extends GvisorSandbox {
  /**
   * The containers of the snapshot, by the ids that they had when it was taken; each has a new one.
   * In the order in which they were made.
   */
  readonly containers: ReadonlyMap<string, LinuxContainer>;
}

/** A container to run, and how. */
export interface GvisorRunOptions extends LinuxRunOptions {
  /**
   * A host directory as the container's `/`; what it writes goes there, unless `readonlyRootfs`.
   * Either this or `image`.
   */
  readonly rootfs?: string;
}
