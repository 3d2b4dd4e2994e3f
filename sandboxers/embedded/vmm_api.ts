/**
 * The interfaces that programs see of microVMs in their own process: a sandboxer, its sandboxes, each
 * of which is a machine of its own, their containers, and the processes in these.
 *
 * @module
 */

import type { NetworkSpec, Stats } from "../lifecycle/spec.ts";
import type { OpenOptions, StdioMode } from "./api.ts";
import type {
  LinuxContainer,
  LinuxProcess,
  LinuxProcessOptions,
  LinuxRunOptions,
  LinuxUser,
} from "./linux_api.ts";

/** Options of `open("vmm")`. */
export interface VmmOpenOptions extends Pick<OpenOptions, "images" | "onWarning"> {
  /** The configuration file. Default: `/etc/quasaur/vmm.toml`, where that is there. */
  readonly config?: string;
  /** Settings that go before those of the file, as TOML: `hypervisor.machine_type="q35"`. */
  readonly set?: readonly string[];
  /**
   * Where machines live while they run. Default: `/run/quasaur/cli` for root, else a private
   * directory of this user below `/tmp`.
   */
  readonly directory?: string;
}

/** Runs microVMs. Disposing of it ends everything that it runs. */
export interface VmmSandboxer extends AsyncDisposable {
  /** The kind that was opened. */
  readonly kind: "vmm";
  /**
   * Creates and starts a sandbox: a machine.
   *
   * @throws {SandboxError} `AlreadyExists` for an id in use; `InvalidArgument`; `Cancelled`;
   *   `FailedPrecondition` where the VMM, the kernel or the initrd is missing, and after disposal.
   */
  createSandbox(options?: VmmSandboxOptions): Promise<VmmSandbox>;
  /**
   * Makes a sandbox of a snapshot: the same containers go on in it where they were, with a clock and
   * entropy of their own, and with new streams. A snapshot is made of as often as is wanted, and can
   * be removed once the call is done. It has to be of this host's QEMU, and from somebody who is
   * trusted like a program: what a machine is made of is in it.
   *
   * ```ts ignore
   * await using sandboxer = await open("vmm");
   * await using sandbox = await sandboxer.restore("/var/lib/warm");
   * const [container] = sandbox.containers.values();
   * for await (const text of container.stdout.pipeThrough(new TextDecoderStream())) {
   *   console.log(text);
   * }
   * ```
   *
   * @param directory What {@link VmmSandbox.snapshot} wrote.
   * @throws {SandboxError} `NotFound` where there is no snapshot; `FailedPrecondition` where it is
   *   damaged or of another QEMU, and after disposal; `PermissionDenied` where machines cannot read
   *   it; `ResourceExhausted` where the disk is full; `AlreadyExists`, `Cancelled`.
   */
  restore(directory: string, options?: VmmRestoreOptions): Promise<VmmRestoredSandbox>;
}

/** Options of {@link VmmSandboxer.restore} and {@link VmmSandbox.fork}. */
export interface VmmRestoreOptions extends Pick<VmmSandboxOptions, "id" | "signal"> {
  /**
   * Where the streams of the containers' first processes go, as far as they had any. Default
   * `piped`.
   */
  readonly streams?: Exclude<StdioMode, "null">;
}

/** Options of {@link VmmSandbox.snapshot}. */
export interface VmmSnapshotOptions {
  /** Aborting it gives the snapshot up. */
  readonly signal?: AbortSignal;
}

/** Options of {@link VmmSandboxer.createSandbox}. */
export interface VmmSandboxOptions {
  /** Unique in its sandboxer: letters, digits, `.`, `_`, `-`. Default: made up. */
  readonly id?: string;
  /**
   * What it reaches: nothing (the default), what this program reaches (`user`: behind address
   * translation), or a network namespace by path.
   */
  readonly network?: Exclude<NetworkSpec, { readonly kind: "host" }>;
  /** CPUs; a part of one is rounded up. Default: the configuration's. */
  readonly cpus?: number;
  /** Memory that containers may use together, in bytes. Default: the configuration's machine. */
  readonly memoryBytes?: number;
  /**
   * Whether it starts with a tree of files that is alive on both sides, which mounts that can be
   * written to need. Default `false`: the machine is started anew for the first container with such.
   */
  readonly sharedTree?: boolean;
  /** The hostname inside. Default: `quasaur`. */
  readonly hostname?: string;
  /** Aborting it gives the start up. */
  readonly signal?: AbortSignal;
}

/** A started machine. Disposing of it ends its containers and releases everything. */
export interface VmmSandbox extends AsyncDisposable {
  /** Its id. */
  readonly id: string;
  /**
   * Runs a command in a container of its own.
   *
   * @throws {SandboxError} `InvalidArgument` for a bad option or root file system, `NotFound` where
   *   that is missing, `AlreadyExists` for an id in use, `Cancelled` on abort, `FailedPrecondition`
   *   after disposal, or what the guest reports.
   */
  run(options: VmmRunOptions): Promise<VmmContainer>;
  /** What the sandbox uses now. */
  stats(): Promise<Stats>;
  /**
   * Saves it with its memory: what runs in it stands still meanwhile, for about a second, and goes
   * on. Processes that were started beside the containers' first ones are in it too, but nobody will
   * have their streams.
   *
   * ```ts ignore
   * await using sandbox = await sandboxer.createSandbox();
   * await using server = await sandbox.run({ rootfs: "./server", command: ["serve"] });
   * await sandbox.snapshot("/var/lib/warm");
   * ```
   *
   * @param directory Where to: it is made. Machines that run as users of their own must be able to
   *   pass through all directories above it.
   * @throws {SandboxError} `AlreadyExists` where something is there; `FailedPrecondition` for a
   *   sandbox with files of the host, a network namespace or a paused container; `PermissionDenied`
   *   where machines cannot get there; `ResourceExhausted` where the disk is full; `Cancelled`.
   *   Nothing is left of it then.
   */
  snapshot(directory: string, options?: VmmSnapshotOptions): Promise<void>;
  /**
   * Makes another sandbox that goes on from here by itself, as {@link VmmSandbox.snapshot} and
   * {@link VmmSandboxer.restore} would.
   *
   * @throws {SandboxError} What these do.
   */
  fork(options?: VmmRestoreOptions): Promise<VmmRestoredSandbox>;
}

/** A sandbox that was made of a snapshot. */
export interface VmmRestoredSandbox extends VmmSandbox {
  /**
   * The containers of the snapshot, by the ids that they had when it was taken; each has a new one.
   * In the order in which they were made.
   */
  readonly containers: ReadonlyMap<string, VmmContainer>;
}

/** A container to run in a machine, and how. */
export interface VmmRunOptions extends LinuxRunOptions {
  /** A host directory as the container's `/`; what it writes stays in the machine. */
  readonly rootfs?: string;
  /**
   * In the place of `rootfs`: a file system image (erofs or ext4) as the container's `/`, or an OCI
   * image as other kinds take them.
   */
  readonly image?: string;
}

/** Who a process in a machine runs as. */
export type VmmUser = LinuxUser;

/** A process to run in a machine, and how. */
export type VmmProcessOptions = LinuxProcessOptions;

/** A container in a machine, with the streams of its first process. */
export type VmmContainer = LinuxContainer;

/** A process in a machine that was started beside a container's first. */
export type VmmProcess = LinuxProcess;
