/**
 * What the calls of one runsc have in common, and how that looks on its command line.
 *
 * @module
 */

import type { Launcher } from "../../host/launcher.ts";

/** The ways in which gVisor catches system calls, the best first. */
export const PLATFORMS = ["systrap", "ptrace", "kvm"] as const;

/** One of {@link PLATFORMS}. */
export type Platform = typeof PLATFORMS[number];

/**
 * Where a sandbox's network is: in gVisor's own stack on the interfaces of its network namespace; in
 * the host kernel's stack in that namespace; nowhere, but for a loopback.
 */
export const NETWORK_STACKS = ["sandbox", "host", "none"] as const;

/** One of {@link NETWORK_STACKS}. */
export type NetworkStack = typeof NETWORK_STACKS[number];

/** What the calls have in common. */
export interface RunscOptions {
  /** The program `runsc`, an absolute path. */
  readonly program: string;
  /** The host launcher. */
  readonly launcher: Launcher;
  /**
   * The directory of runsc's state; made where it is missing. The socket of a sandbox lies there as
   * `runsc-ID.sock`, and where that is longer than a socket's path can be (107 bytes) runsc takes
   * /run without a word: keep this, and the ids of sandboxes, short.
   */
  readonly root: string;
  /** The directory of the logs of single calls, an absolute path; made where it is missing. */
  readonly logs: string;
  /** How system calls are caught. */
  readonly platform: Platform;
  /** Where the network is. */
  readonly network: NetworkStack;
  /**
   * Whether runsc must not see /proc/sys/net when it starts a sandbox: see `chooseNetwork()`.
   * Default no.
   */
  readonly hidesNetworkSettings?: boolean;
  /**
   * Where writes to root file systems go: `none` to the file system itself, `self` to a file in its
   * root directory, `memory` to memory. Default `none`.
   */
  readonly overlay?: "none" | "self" | "memory";
  /** Whether the sentry opens files itself, not by its gofer. Default yes. */
  readonly directfs?: boolean;
  /** `shared` where others change root file systems meanwhile. Default `exclusive`. */
  readonly fileAccess?: "exclusive" | "shared";
  /** Whether runsc leaves cgroups alone. Default no. */
  readonly ignoresCgroups?: boolean;
  /** Whether containers that have CAP_NET_RAW may use it. Default no. */
  readonly rawSockets?: boolean;
  /** Whether the seccomp rules of containers count inside. Default no. */
  readonly seccomp?: boolean;
  /** Where detailed logs go, an absolute path of a directory; nowhere, where it is missing. */
  readonly debugLogs?: string;
  /** The file that takes the last words of a sandbox that crashes, an absolute path. */
  readonly panicLog?: string;
  /** Further flags, at the end. */
  readonly extraFlags?: readonly string[];
  /** How long one call may take, in milliseconds. Default 30000. */
  readonly timeoutMs?: number;
}

/**
 * The flags before the name of the call.
 *
 * @param options What the calls have in common.
 * @param log The file that takes the messages of this one, an absolute path.
 */
export function globalFlags(options: RunscOptions, log: string): string[] {
  const { overlay = "none", directfs = true, fileAccess = "exclusive" } = options;
  const { debugLogs, panicLog } = options;
  return [
    `--root=${options.root}`,
    `--log=${log}`,
    "--log-format=json",
    `--platform=${options.platform}`,
    `--network=${options.network}`,
    `--overlay2=${overlay === "none" ? "none" : `root:${overlay}`}`,
    `--directfs=${directfs}`,
    `--file-access=${fileAccess}`,
    ...(options.ignoresCgroups === true ? ["--ignore-cgroups"] : []),
    ...(options.rawSockets === true ? ["--net-raw"] : []),
    ...(options.seccomp === true ? ["--oci-seccomp"] : []),
    ...(panicLog === undefined ? [] : [`--panic-log=${panicLog}`]),
    ...(debugLogs === undefined ? [] : ["--debug", `--debug-log=${debugLogs}/`]),
    ...(options.extraFlags ?? []),
  ];
}
