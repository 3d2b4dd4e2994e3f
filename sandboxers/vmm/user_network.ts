/**
 * The network that a VMM makes by itself, without any right on the host: a private one behind address
 * translation, in which the guest reaches what the program reaches.
 *
 * Source: QEMU, "Network emulation", `-netdev user`.
 *
 * @module
 */

import type { PodNetwork } from "./network/pod_network.ts";

/** What a guest is told of it: the addresses are the VMM's defaults. */
export const USER_NETWORK: PodNetwork = {
  interfaces: [{
    name: "eth0",
    device: 0,
    mac: "02:00:0a:00:02:0f",
    mtu: 1500,
    addresses: ["10.0.2.15/24"],
  }],
  routes: [{
    destination: "default",
    family: "inet",
    gateway: "10.0.2.2",
    interface: "eth0",
  }],
  neighbours: [],
  links: [],
  warnings: [],
};

/** The name server of it, where the pod asks for none. */
export const USER_NETWORK_RESOLV_CONF = "nameserver 10.0.2.3\n";
