/**
 * The interfaces that programs see of microVMs in their own process: a sandboxer, its sandboxes, each
 * of which is a machine of its own, their containers, and the processes in these.
 *
 * @module
 */

import type { NetworkSpec, Stats } from "../lifecycle/spec.ts";
import type { Container, DirectoryMount, OpenOptions, StdioMode } from "./api.ts";

/** Options of `open("vmm")`. */
export interface VmmOpenOptions extends Pick<OpenOptions, "onWarning"> {
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
}

/** The size of a terminal, in characters. */
export interface TerminalSize {
  /** Characters in a line. */
  readonly columns: number;
  /** Lines. */
  readonly rows: number;
}

/** Who a process runs as, by number. */
export interface VmmUser {
  /** User id. Default 0. */
  readonly uid?: number;
  /** Group id. Default: that of the user's number. */
  readonly gid?: number;
  /** Further groups. */
  readonly additionalGids?: readonly number[];
}

/** A process to run, and how. */
export interface VmmProcessOptions {
  /** The command and its arguments, at least one. */
  readonly command: readonly string[];
  /** The environment beside `PATH` and, with a terminal, `TERM`; nothing is inherited. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory inside. Default `/`. */
  readonly workdir?: string;
  /** Who it runs as. Default: root, as far as containers have one. */
  readonly user?: VmmUser;
  /** Whether it has a terminal, and of what size; then `stdout` carries both outputs. */
  readonly terminal?: boolean | TerminalSize;
  /** Default `null`: it reads nothing. */
  readonly stdin?: StdioMode;
  /** Default `piped`. */
  readonly stdout?: StdioMode;
  /** Default `piped`; with a terminal there is none. */
  readonly stderr?: StdioMode;
  /** Aborting it gives the start up, or kills the process once it runs. */
  readonly signal?: AbortSignal;
}

/** A container to run, and how. */
export interface VmmRunOptions extends VmmProcessOptions {
  /** A host directory as the container's `/`; what it writes stays in the machine. */
  readonly rootfs?: string;
  /** A file system image (erofs or ext4) as the container's `/`, in the place of `rootfs`. */
  readonly image?: string;
  /** Unique in its sandboxer: letters, digits, `.`, `_`, `-`. Default: made up. */
  readonly id?: string;
  /** Whether its `/` cannot be written to. Default `false`. */
  readonly readonlyRootfs?: boolean;
  /** Host files and directories to show to the container. */
  readonly mounts?: readonly DirectoryMount[];
  /** Memory limit of this container in bytes. Default: none but the machine's. */
  readonly memoryBytes?: number;
}

/** A container that was started, with the streams of its first process. */
export interface VmmContainer extends Container {
  /** Starts another process in it. */
  exec(options: VmmProcessOptions): Promise<VmmProcess>;
  /** Sets the size of its terminal. */
  resize(size: TerminalSize): Promise<void>;
  /** Freezes it. */
  pause(): Promise<void>;
  /** Thaws it. */
  resume(): Promise<void>;
}

/**
 * A process that was started beside a container's first. Disposing of it kills it where it still
 * runs.
 */
export interface VmmProcess extends Omit<Container, "id" | "stats"> {
  /** Sets the size of its terminal. */
  resize(size: TerminalSize): Promise<void>;
}
