/**
 * How `kubectl port-forward` gets into a guest. containerd enters the pod's network namespace and
 * connects to 127.0.0.1 there; nobody else uses that address in a namespace whose pod is a guest. So
 * it is routed to the guest's tap, from an address that only the two of them know. The guest takes it
 * for its own 127.0.0.1 (route_localnet), and what comes for such addresses from outside of the pod
 * never gets that far.
 *
 * Source: containerd internal/cri/server/sandbox_portforward_linux.go; ip-sysctl, route_localnet.
 *
 * @module
 */

import type { NetnsStep } from "../../host/netns.ts";

/** The namespace's address on the way to the guest: link-local, so nobody else's. */
const HOST_ADDRESS = "169.254.127.1";
/** The MAC address of the tap that has it. */
const HOST_MAC = "02:00:00:7f:00:01";

/** What the guest has to know. */
export interface GuestSide {
  /** A route back. */
  readonly route: {
    readonly destination: string;
    readonly family: "inet";
    readonly interface: string;
    readonly scope: "link";
  };
  /** Where that is. */
  readonly neighbour: {
    readonly address: string;
    readonly mac: string;
    readonly interface: string;
  };
  /** Kernel settings. */
  readonly sysctls: Readonly<Record<string, string>>;
}

/**
 * What the guest has to know.
 *
 * @param name The name of its first interface.
 */
export function guestSide(name: string): GuestSide {
  return {
    route: { destination: `${HOST_ADDRESS}/32`, family: "inet", interface: name, scope: "link" },
    neighbour: { address: HOST_ADDRESS, mac: HOST_MAC, interface: name },
    // Slashes part names: an interface's name may have a dot.
    sysctls: { [`net/ipv4/conf/${name}/route_localnet`]: "1" },
  };
}

/**
 * Filters that go before those that mirror all.
 *
 * @param device An interface of the pod, or the tap before it.
 * @param side Which of the two it is.
 * @param preference Theirs; lower than that of the others.
 */
export function forwardFilter(
  device: string,
  side: "interface" | "tap",
  preference: number,
): string {
  // Without an action a packet goes to the namespace's own stack, which has no use for loopback
  // addresses from outside and drops it.
  const match = side === "interface"
    ? "match ip dst 127.0.0.0/8"
    : `match ip dst ${HOST_ADDRESS}/32 match ip protocol 6 0xff`;
  return `filter add dev ${device} ingress pref ${preference} protocol ip u32 ${match} flowid 1:1`;
}

/**
 * Sends the namespace's loopback address to the guest. A pod works without: all of it may fail.
 *
 * @param netns The pod's namespace.
 * @param tap The name of the first tap there; it is up.
 * @param mac The guest's.
 */
export function forwardSteps(netns: string, tap: string, mac: string): NetnsStep[] {
  return [
    {
      netns,
      program: "ip",
      isOptional: true,
      commands: [
        `link set dev ${tap} address ${HOST_MAC}`,
        `address add ${HOST_ADDRESS}/32 dev ${tap}`,
        `neighbour replace 127.0.0.1 lladdr ${mac} dev ${tap} nud permanent`,
        "address del 127.0.0.1/8 dev lo",
        `route add 127.0.0.1/32 dev ${tap} src ${HOST_ADDRESS}`,
      ],
    },
    {
      netns,
      program: "sysctl",
      isOptional: true,
      commands: [`ipv4/conf/${tap}/route_localnet 1`],
    },
  ];
}

/**
 * The reverse of {@link forwardSteps}, before the tap goes.
 *
 * @param tap The name of the first tap in the pod.
 */
export function unforwardCommands(tap: string): readonly string[] {
  return [
    `address del ${HOST_ADDRESS}/32 dev ${tap}`,
    `route del 127.0.0.1/32 dev ${tap}`,
    "address replace 127.0.0.1/8 dev lo",
  ];
}
