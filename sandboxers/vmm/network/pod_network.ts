/**
 * What a pod's network namespace holds, as CNI left it: interfaces with addresses, routes and known
 * neighbours, in the terms in which the guest is told.
 *
 * @module
 */

import type {
  GuestInterface,
  GuestNeighbour,
  GuestRoute,
} from "../../../guest/protocol/messages.ts";
import type { Launcher } from "../../host/launcher.ts";
import { runInNetns } from "../../host/netns.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { NetworkSpec } from "../../lifecycle/spec.ts";
import { parsePodNetwork } from "./ip_json.ts";

/** An interface of the pod, on the host's side. */
export interface PodLink {
  /** Its name in the pod's namespace. */
  readonly name: string;
  /** What it is: `veth`, `macvlan` ...; empty for a real network card. */
  readonly kind: string;
  /** The largest packet in bytes. */
  readonly mtu: number;
  /** Whether somebody has put an ingress or clsact qdisc there. */
  readonly hasIngress: boolean;
}

/** A pod's network. */
export interface PodNetwork {
  /** For the guest: its interfaces; `device` counts from 0 in the order of `links`. */
  readonly interfaces: readonly GuestInterface[];
  /** For the guest: its routes, in an order in which they can be added. */
  readonly routes: readonly GuestRoute[];
  /** For the guest: neighbours that are known for good. */
  readonly neighbours: readonly GuestNeighbour[];
  /** For the guest: kernel settings, by name with slashes. */
  readonly sysctls?: Readonly<Record<string, string>>;
  /** The pod's interfaces, in the order in which taps are put before them. */
  readonly links: readonly PodLink[];
  /** What of the namespace cannot be had in a guest, for the log. */
  readonly warnings: readonly string[];
}

/** A pod without any network but loopback. */
export const NO_NETWORK: PodNetwork = {
  interfaces: [],
  routes: [],
  neighbours: [],
  links: [],
  warnings: [],
};

/**
 * The path of a pod's network namespace.
 *
 * @param network What the pod asks for.
 * @throws {SandboxError} `InvalidArgument` for the host's network: a guest has a kernel of its own.
 */
export function podNetns(network: NetworkSpec): string {
  if (network.kind === "namespace") return network.path;
  throw new SandboxError(
    "InvalidArgument",
    "cannot give a microVM the host's network: it has a kernel of its own: leave hostNetwork out " +
      "of the pod, or use a runtime class that runs on the host's kernel",
  );
}

/**
 * Reads what CNI has set up. Nothing is changed.
 *
 * @param launcher The launcher.
 * @param netns The pod's network namespace, a path.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `NotFound` where the namespace is missing; `FailedPrecondition` where it has
 *   an interface that no guest can be put behind, by name and type.
 */
export async function readPodNetwork(
  launcher: Launcher,
  netns: string,
  signal?: AbortSignal,
): Promise<PodNetwork> {
  const action = `cannot read the pod's network "${netns}"`;
  const [state = "", qdiscs = ""] = await runInNetns(launcher, action, [
    {
      netns,
      program: "ip",
      commands: ["address show", "route show table all", "neighbour show"],
    },
    { netns, program: "tc", commands: ["qdisc show"] },
  ], { signal });
  return parsePodNetwork(netns, state, qdiscs);
}
