/**
 * Which namespaces a container has of its own inside of its pod's machine. What a config.json shares
 * with the pod or the host by path, it shares with the guest: network, host name, and IPC are the
 * machine's, which is the pod's.
 *
 * @module
 */

import type { JsonObject } from "../../../guest/protocol/messages.ts";
import { objectsOf, stringOf } from "../../oci/json.ts";

/** What a container has of its own. */
export interface GuestNamespaces {
  /** `linux.namespaces` for the guest. */
  readonly list: readonly JsonObject[];
  /** See `CreateContainerArgs.pidNamespace`. */
  readonly pid: "own" | "pod";
  /** Whether it shares IPC with the pod. */
  readonly sharesIpc: boolean;
}

/**
 * Reads `linux.namespaces`. A container that asks for the host's process ids gets the pod's: the host
 * that it could look at is the guest.
 *
 * @param linux The `linux` object of a config.json.
 */
export function guestNamespaces(linux: JsonObject): GuestNamespaces {
  const own = new Set(
    objectsOf(linux, "namespaces")
      .filter((namespace) => stringOf(namespace, "path") === "")
      .map((namespace) => stringOf(namespace, "type")),
  );
  const kept = ["pid", "ipc", "uts"].filter((type) => own.has(type));
  return {
    // Without a cgroup namespace it would see the cgroups of its neighbours.
    list: ["mount", "cgroup", ...kept].map((type) => ({ type })),
    pid: own.has("pid") ? "own" : "pod",
    sharesIpc: !own.has("ipc"),
  };
}
