/**
 * The interfaces that programs see of gVisor in their own process: a sandboxer, its sandboxes, each of
 * which has an application kernel of its own, and their containers.
 *
 * @module
 */

import type { NetworkSpec, Stats } from "../lifecycle/spec.ts";
import type { OpenOptions } from "./api.ts";
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
}

/** A container to run, and how. */
export interface GvisorRunOptions extends LinuxRunOptions {
  /**
   * A host directory as the container's `/`; what it writes goes there, unless `readonlyRootfs`.
   * Either this or `image`.
   */
  readonly rootfs?: string;
}
