/**
 * What can be configured of application kernels, as the program has it. The names in a file are the
 * same with underscores: `fileAccess` is `file_access`.
 *
 * @module
 */

import type { LogLevel } from "../../log.ts";
import type { AppKernelName } from "../app_kernel.ts";

/** The file that is read unless another is named. It need not be there. */
export const DEFAULT_CONFIG_FILE = "/etc/quasaur/quark.toml";

/** The whole configuration. */
export interface QuarkConfig {
  /** The sandboxer's own. */
  readonly sandbox: SandboxSection;
  /** Which kernel pods get. */
  readonly kernel: KernelSection;
  /** gVisor. */
  readonly gvisor: GvisorSection;
  /** Quark. */
  readonly quark: QuarkSection;
}

/** `[sandbox]` */
export interface SandboxSection {
  /** Below it nothing is logged. */
  readonly logLevel: LogLevel;
}

/** `[kernel]` */
export interface KernelSection {
  /** The kernel of pods whose runtime names none. */
  readonly default: AppKernelName;
}

/** How gVisor catches system calls; `auto` for the first of systrap and ptrace that works. */
export const PLATFORM_CHOICES = ["auto", "systrap", "ptrace", "kvm"] as const;

/** See {@link PLATFORM_CHOICES}. */
export type PlatformChoice = typeof PLATFORM_CHOICES[number];

/** How gVisor's pods are connected; `auto` for the best that works. */
export const NETWORK_CHOICES = ["auto", "sandbox", "host", "none"] as const;

/** See {@link NETWORK_CHOICES}. */
export type NetworkChoice = typeof NETWORK_CHOICES[number];

/** Where gVisor keeps what containers write to their root file system. */
export const OVERLAY_CHOICES = ["none", "memory", "self"] as const;

/** See {@link OVERLAY_CHOICES}. */
export type OverlayChoice = typeof OVERLAY_CHOICES[number];

/** `[gvisor]` */
export interface GvisorSection {
  /** The program `runsc`. */
  readonly path: string;
  /** See {@link PLATFORM_CHOICES}. */
  readonly platform: PlatformChoice;
  /** See {@link NETWORK_CHOICES}. */
  readonly network: NetworkChoice;
  /** See {@link OVERLAY_CHOICES}. */
  readonly overlay: OverlayChoice;
  /** Whether files of root file systems may be kept inside, as nobody else changes them. */
  readonly fileAccess: "exclusive" | "shared";
  /** Whether the sentry opens files by itself instead of asking its gofer. */
  readonly directfs: boolean;
  /** Whether containers with CAP_NET_RAW may use it. */
  readonly rawSockets: boolean;
  /** Whether the system call filters of containers count inside. */
  readonly seccomp: boolean;
  /** How long one run of the program may take, in seconds. */
  readonly commandTimeoutInS: number;
  /** Whether the program and its sandboxes write logs for debugging. */
  readonly debug: boolean;
  /** Further global flags of the program. */
  readonly extraArgs: readonly string[];
}

/** `[quark]` */
export interface QuarkSection {
  /** The program `quark`. */
  readonly path: string;
  /** Quark's own configuration. */
  readonly configPath: string;
  /** How long a sandbox may take until its task service answers, in seconds. */
  readonly readyTimeoutInS: number;
}
