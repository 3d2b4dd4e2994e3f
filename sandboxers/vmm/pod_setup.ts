/**
 * What a guest is told to become one pod's own: its name, its clock and entropy, its addresses, and
 * the files by which its containers know names.
 *
 * Source of the files: containerd internal/cri/server/podsandbox/sandbox_run_linux.go,
 * setupSandboxFiles.
 *
 * @module
 */

import { createHash } from "node:crypto";
import type {
  GuestInterface,
  GuestNeighbour,
  GuestRoute,
  SetupArgs,
} from "../../guest/protocol/messages.ts";
import type { SandboxSpec } from "../lifecycle/spec.ts";
import { resolvConf } from "../resolv_conf.ts";

/** The hostname of a pod that asks for none. */
const DEFAULT_HOSTNAME = "quasaur";
/** Entropy for a guest, in bytes: twice what its generator holds. */
const SEED_BYTES = 64;
/** Size of a pod's /dev/shm, in bytes, as containerd makes it. */
const SHM_BYTES = 64 << 20;

/** What a guest is told of its network. */
export interface GuestNetwork {
  /** Interfaces beside the loopback. */
  readonly interfaces: readonly GuestInterface[];
  /** Routes, in an order in which they can be added. */
  readonly routes: readonly GuestRoute[];
  /** Static neighbours. */
  readonly neighbours: readonly GuestNeighbour[];
  /** Kernel settings that belong to it. */
  readonly sysctls?: Readonly<Record<string, string>>;
}

/** A guest with its loopback only. */
export const NO_NETWORK: GuestNetwork = { interfaces: [], routes: [], neighbours: [] };

/**
 * Makes the set-up of a pod.
 *
 * @param spec The pod.
 * @param network Its network.
 * @param hostResolvConf The host's resolv.conf(5), for a pod without DNS settings of its own.
 */
export function podSetup(
  spec: SandboxSpec,
  network: GuestNetwork,
  hostResolvConf: string,
): SetupArgs {
  const hostname = spec.hostname === "" ? DEFAULT_HOSTNAME : spec.hostname;
  return {
    timeMs: Date.now(),
    seed: crypto.getRandomValues(new Uint8Array(SEED_BYTES)).toBase64(),
    hostname,
    machineId: createHash("sha256").update(spec.id).digest("hex").slice(0, 32),
    interfaces: network.interfaces,
    routes: network.routes,
    neighbours: network.neighbours,
    files: {
      hosts: hostsFile(hostname, network.interfaces),
      hostname: `${hostname}\n`,
      resolvConf: resolvConf(spec.dns) || hostResolvConf,
    },
    shmBytes: SHM_BYTES,
    sysctls: { ...network.sysctls, ...spec.sysctls },
  };
}

/** hosts(5): the loopback, and the pod's own addresses under its name. */
function hostsFile(hostname: string, interfaces: readonly GuestInterface[]): string {
  const own = interfaces.flatMap(({ addresses }) => addresses)
    .map((address) => address.replace(/\/\d+$/, ""))
    .filter((address) => !/^fe80:/i.test(address));
  return [
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    ...own.map((address) => `${address}\t${hostname}`),
    "",
  ].join("\n");
}
