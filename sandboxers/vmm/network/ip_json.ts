/**
 * Reads what `ip -j -d` and `tc -j` print (iproute2), and turns it into a {@link PodNetwork}. Only
 * what is used is looked at; what is not there counts as not set.
 *
 * @module
 */

import { BlockList } from "node:net";
import type {
  GuestInterface,
  GuestNeighbour,
  GuestRoute,
} from "../../../guest/protocol/messages.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { PodLink, PodNetwork } from "./pod_network.ts";
import { guestSide } from "./port_forward.ts";

/** A JSON object whose fields are checked when they are read. */
type Fields = Readonly<Record<string, unknown>>;

/** Types of interfaces that a tap can be put before. A real card has the empty one. */
const MIRRORED_KINDS: ReadonlySet<string> = new Set(["", "veth", "macvlan", "ipvlan", "vlan"]);
/** Bits of the longest prefixes. */
const FULL_PREFIX = { inet: 32, inet6: 128 } as const;

type Family = keyof typeof FULL_PREFIX;

/** An interface with its addresses, as it is in the namespace. */
interface Link extends PodLink {
  readonly mac: string;
  readonly addresses: readonly Address[];
}

interface Address {
  readonly family: Family;
  readonly local: string;
  readonly prefix: number;
  /** Whether it names a peer instead of a subnet. */
  readonly hasPeer: boolean;
  /** Whether another address of the same subnet came before. */
  readonly isSecondary: boolean;
}

/** A route of the main table. */
interface Route {
  readonly family: Family;
  readonly destination: string;
  readonly link: string;
  readonly gateway: string | undefined;
  readonly scope: string;
  readonly source: string | undefined;
  readonly metric: number;
  readonly isOnlink: boolean;
  readonly isKernels: boolean;
  readonly mtu: number | undefined;
}

/**
 * Reads the state of a pod's network namespace.
 *
 * @param netns The namespace, for messages.
 * @param state What `ip -j -d -batch` wrote for `address show`, `route show table all` and
 *   `neighbour show`: a line of JSON for each.
 * @param qdiscs What `tc -j -d -batch` wrote for `qdisc show`.
 * @throws {SandboxError} `FailedPrecondition` where a guest cannot be put behind an interface;
 *   `Internal` where the text is none of ip's.
 */
export function parsePodNetwork(netns: string, state: string, qdiscs: string): PodNetwork {
  const [addresses = "[]", routeText = "[]", neighbourText = "[]"] = state.split("\n");
  const warnings: string[] = [];
  const ingress = new Set(
    list(netns, qdiscs).filter((it) => ["ingress", "clsact"].includes(text(it, "kind")))
      .map((it) => text(it, "dev")),
  );
  const links = list(netns, addresses).flatMap((it) => parseLink(netns, it, ingress));
  const routes = list(netns, routeText).flatMap((it) => parseRoute(it, warnings))
    .filter((route) => isWanted(route, links, warnings));
  const names = new Set(links.map(({ name }) => name));
  const [first] = links;
  const forward = first === undefined ? undefined : guestSide(first.name);
  return {
    interfaces: links.map((link, device) => guestInterface(link, device, routes)),
    routes: [
      ...(forward === undefined ? [] : [forward.route]),
      ...ordered(routes.filter((route) => !isMadeByAddress(route, links))).map(guestRoute),
    ],
    neighbours: [
      ...list(netns, neighbourText).flatMap((it) => parseNeighbour(it, names)),
      ...(forward === undefined ? [] : [forward.neighbour]),
    ],
    ...(forward === undefined ? {} : { sysctls: forward.sysctls }),
    links: links.map(({ name, kind, mtu, hasIngress }) => ({ name, kind, mtu, hasIngress })),
    warnings,
  };
}

function parseLink(netns: string, it: Fields, ingress: ReadonlySet<string>): Link[] {
  const name = text(it, "ifname");
  const flags = strings(it, "flags");
  // Namespaces have devices that tunnel modules put there, and that nobody has switched on.
  if (flags.includes("LOOPBACK") || !flags.includes("UP")) return [];
  const addresses = objects(it, "addr_info").flatMap(parseAddress);
  const info = object(it, "linkinfo");
  const kind = text(info, "info_kind");
  const mode = text(object(info, "info_data"), "mode");
  const isEthernet = text(it, "link_type") === "ether";
  // An IPvlan without link layer answers no ARP, and a guest asks by ARP.
  const isMirrored = MIRRORED_KINDS.has(kind) && isEthernet &&
    !(kind === "ipvlan" && mode !== "l2");
  if (!isMirrored) {
    if (addresses.length === 0) return [];
    const type = [kind === "" ? text(it, "link_type") : kind, mode].filter((word) => word !== "");
    throw new SandboxError(
      "FailedPrecondition",
      `cannot use the interface "${name}" of the pod's network "${netns}" for a microVM: its type ` +
        `is ${
          type.join(", mode ")
        }: expected veth, macvlan, ipvlan in mode l2, vlan or a network ` +
        "card: use another CNI plugin, or another runtime class for this pod",
    );
  }
  const mtu = number(it, "mtu") ?? 1500;
  return [{ name, kind, mtu, hasIngress: ingress.has(name), mac: text(it, "address"), addresses }];
}

function parseAddress(it: Fields): Address[] {
  const family = familyOf(text(it, "family"));
  const local = text(it, "local");
  const prefix = number(it, "prefixlen");
  if (family === undefined || local === "" || prefix === undefined) return [];
  // Each kernel makes its own link-local address, from the MAC address that they share.
  if (family === "inet6" && text(it, "scope") === "link") return [];
  return [{
    family,
    local,
    prefix,
    hasPeer: text(it, "address") !== "",
    isSecondary: it["secondary"] === true,
  }];
}

function parseRoute(it: Fields, warnings: string[]): Route[] {
  const table = text(it, "table");
  const destination = text(it, "dst");
  const type = text(it, "type");
  if (table === "local" || type === "local" || type === "broadcast" || type === "multicast") {
    return [];
  }
  const skipped = (why: string): Route[] => {
    warnings.push(`the route to ${destination} is not in the guest: ${why}`);
    return [];
  };
  if (table !== "" && table !== "main") return skipped(`it is in table ${table}`);
  if (type !== "" && type !== "unicast") return skipped(`its type is ${type}`);
  const hops = objects(it, "nexthops");
  const [hop = it] = hops;
  if (hops.length > 1) {
    warnings.push(`the route to ${destination} has one way in the guest, not ${hops.length}`);
  }
  const via = object(hop, "via");
  if (text(via, "host") !== "") return skipped("its gateway is of another family");
  const gateway = text(hop, "gateway");
  const isV6 = destination.includes(":") || gateway.includes(":") || it["pref"] !== undefined;
  const [metrics = {}] = objects(it, "metrics");
  return [{
    family: isV6 ? "inet6" : "inet",
    destination,
    link: text(hop, "dev"),
    gateway: gateway === "" ? undefined : gateway,
    scope: text(it, "scope"),
    source: text(it, "prefsrc") === "" ? undefined : text(it, "prefsrc"),
    metric: number(it, "metric") ?? 0,
    isOnlink: [...strings(hop, "flags"), ...strings(it, "flags")].includes("onlink"),
    isKernels: text(it, "protocol") === "kernel",
    mtu: number(metrics, "mtu"),
  }];
}

function parseNeighbour(it: Fields, names: ReadonlySet<string>): GuestNeighbour[] {
  const address = text(it, "dst");
  const mac = text(it, "lladdr");
  const link = text(it, "dev");
  if (!strings(it, "state").includes("PERMANENT") || mac === "" || !names.has(link)) return [];
  return [{ address, mac, interface: link }];
}

/** Not routes by way of loopback and the like, and not those that each kernel has anyway. */
function isWanted(route: Route, links: readonly Link[], warnings: string[]): boolean {
  if (route.destination === "fe80::/64" && route.isKernels) return false;
  if (links.some(({ name }) => name === route.link)) return true;
  if (route.link !== "lo") {
    warnings.push(
      `the route to ${route.destination} is not in the guest: it has no "${route.link}"`,
    );
  }
  return false;
}

/** Whether the kernel made the route when the address was set, as the guest's will. */
function comesWith(route: Route, link: Link, address: Address): boolean {
  if (!route.isKernels || route.link !== link.name || route.family !== address.family) return false;
  if (address.hasPeer || address.prefix === FULL_PREFIX[address.family]) return false;
  const [network = "", prefix = ""] = route.destination.split("/");
  if (Number(prefix) !== address.prefix) return false;
  const subnet = new BlockList();
  const family = address.family === "inet" ? "ipv4" : "ipv6";
  subnet.addSubnet(network, address.prefix, family);
  return subnet.check(address.local, family);
}

function isMadeByAddress(route: Route, links: readonly Link[]): boolean {
  return links.some((link) => link.addresses.some((it) => comesWith(route, link, it)));
}

/**
 * An address whose subnet is not on the link (its route was taken away, as the ptp plugin does it)
 * is given as a single one: else the guest's kernel would put that route back.
 */
function guestAddress(address: Address, link: Link, routes: readonly Route[]): string {
  const isOnLink = address.isSecondary || routes.some((route) => comesWith(route, link, address));
  return `${address.local}/${isOnLink ? address.prefix : FULL_PREFIX[address.family]}`;
}

function guestInterface(link: Link, device: number, routes: readonly Route[]): GuestInterface {
  // Routes of the guest have no packet size of their own.
  const sizes = routes.filter((route) => route.link === link.name && route.mtu !== undefined)
    .map((route) => route.mtu ?? link.mtu);
  return {
    name: link.name,
    device,
    mac: link.mac,
    mtu: Math.min(link.mtu, ...sizes),
    addresses: link.addresses.map((address) => guestAddress(address, link, routes)),
  };
}

/** A gateway must be on a link that is known: those without come first. */
function ordered(routes: readonly Route[]): readonly Route[] {
  return [
    ...routes.filter(({ gateway }) => gateway === undefined),
    ...routes.filter(({ gateway }) => gateway !== undefined),
  ];
}

function guestRoute(route: Route): GuestRoute {
  const { destination, family, gateway, source, scope, metric } = route;
  return {
    destination,
    family,
    interface: route.link,
    ...(gateway === undefined ? {} : { gateway }),
    // Scopes are IPv4's; "global" is what is taken without one.
    ...(family === "inet" && scope !== "" && scope !== "global" ? { scope } : {}),
    ...(source === undefined ? {} : { source }),
    ...(metric === 0 ? {} : { metric }),
    ...(route.isOnlink ? { onlink: true } : {}),
  };
}

function familyOf(name: string): Family | undefined {
  return name === "inet" || name === "inet6" ? name : undefined;
}

/** A JSON array of objects; nothing for no text, as is printed where there is nothing to show. */
function list(netns: string, json: string): readonly Fields[] {
  if (json.trim() === "") return [];
  try {
    const value: unknown = JSON.parse(json);
    if (Array.isArray(value)) return value.filter(isFields);
  } catch {
    // It is told below.
  }
  throw new SandboxError(
    "Internal",
    `cannot read the pod's network "${netns}": expected JSON of ip or tc, found ` +
      JSON.stringify(json.slice(0, 100)),
  );
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function text(it: Fields, name: string): string {
  const value = it[name];
  return typeof value === "string" ? value : "";
}

function number(it: Fields, name: string): number | undefined {
  const value = it[name];
  return typeof value === "number" ? value : undefined;
}

function strings(it: Fields, name: string): readonly string[] {
  const value = it[name];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}

function object(it: Fields, name: string): Fields {
  const value = it[name];
  return isFields(value) ? value : {};
}

function objects(it: Fields, name: string): readonly Fields[] {
  const value = it[name];
  return Array.isArray(value) ? value.filter(isFields) : [];
}
