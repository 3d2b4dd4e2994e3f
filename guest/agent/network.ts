/**
 * The guest's network: finds its network devices, and gives them the names, addresses, routes and
 * neighbours of the pod by rtnetlink. What was asked for is checked and turned into messages first,
 * so that a mistake changes nothing.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import type {
  GuestInterface,
  GuestNeighbour,
  GuestRoute,
  SetupArgs,
} from "../protocol/messages.ts";
import { errnoName, must, systemError } from "./errno.ts";
import {
  formatPrefix,
  hasColon,
  type IpPrefix,
  parseAddress,
  parseMac,
  parsePrefix,
} from "./ip_address.ts";
import { log } from "./log.ts";
import { AF_INET, AF_INET6, NETLINK_ROUTE } from "./linux.ts";
import {
  addressGoneRequest,
  addressRequest,
  linkRequest,
  neighbourRequest,
  type NetlinkRequest,
  packRequests,
  parseAnswers,
  routeRequest,
  SCOPES,
} from "./netlink.ts";
import * as sys from "./sys.js";
import { sleep } from "./loop.ts";

/** A network device of the guest. */
export interface NetworkDevice {
  /** Its name now. */
  readonly name: string;
  /** Its number. */
  readonly index: number;
  /** Whether it was switched on. */
  readonly isOn?: boolean;
}

/** What `setup` says about the network. */
export type NetworkPlan = Pick<SetupArgs, "interfaces" | "routes" | "neighbours">;

/** Addresses that nobody has (RFC 5737, RFC 3849). */
const REHEARSED_ADDRESSES = ["192.0.2.2/24", "2001:db8::2/64"];

/** How long a device that is being plugged in may take to be seen, in milliseconds. */
const DEVICE_WAIT_MS = 5000;
/** Requests in one datagram; the kernel's answers to them fit its buffer by far. */
const BATCH = 64;

/**
 * Sets the pod's network up.
 *
 * @param plan Interfaces, routes and neighbours.
 * @returns Does the rest, which has to be done before the first container starts: what an IPv4 pod
 *   has of IPv6. A promise of it where a device is still missing.
 * @throws AgentError `InvalidArgument` for what cannot be read, `NotFound` where a device is
 *   missing, else what the kernel refused.
 */
export function setUpNetwork(plan: NetworkPlan): (() => void) | Promise<() => void> {
  if (plan.interfaces.length === 0 && plan.routes.length === 0) return () => {};
  const needed = devicesNeeded(plan.interfaces);
  if (known.length >= needed) return setUpOn(plan, known);
  return waitForDevices(needed).then((devices) => setUpOn(plan, devices));
}

function setUpOn(plan: NetworkPlan, devices: readonly NetworkDevice[]): () => void {
  // Names may change from here on.
  known = [];
  transact(renameAway(plan.interfaces, devices));
  const canWait = hasIpv6() && !needsIpv6(plan);
  transact(planRequests(plan, devices, hasIpv6() && !canWait));
  return () => {
    if (canWait) setUpLinkAddresses(plan, devices);
  };
}

// From here on plain loops, where methods of arrays would be shorter: an emulated guest translates
// every function of its JavaScript engine that runs for the first time, and a pod waits for this.

/** Whether anything of the pod is IPv6. */
function needsIpv6({ interfaces, routes, neighbours }: NetworkPlan): boolean {
  for (const { addresses } of interfaces) {
    for (const address of addresses) if (hasColon(address)) return true;
  }
  for (const { family, gateway } of routes) {
    if (family !== "inet" || gateway !== undefined && hasColon(gateway)) return true;
  }
  for (const { address } of neighbours) if (hasColon(address)) return true;
  return false;
}

/** Gives each interface its IPv6 address of the link. Without it the pod's network works as well. */
function setUpLinkAddresses({ interfaces }: NetworkPlan, devices: readonly NetworkDevice[]): void {
  try {
    transact(interfaces.flatMap((wanted) => {
      const { index } = deviceOf(wanted, devices);
      return linkLocalOf(parseMac(wanted.mac), true).map((address) =>
        addressRequest(
          index,
          address,
          () => `cannot give the interface "${wanted.name}" the address ${formatPrefix(address)}`,
        )
      );
    }));
  } catch (thrown) {
    log("warn", thrown instanceof Error ? thrown.message : String(thrown));
  }
}

/**
 * Switches loopback and all network devices on, still without addresses. Filling a device's receive
 * queue takes long, and a clone of a template that has done it need not do it again.
 */
export function switchDevicesOn(): void {
  hasIpv6();
  known = findDevices();
  transact(
    [{ name: "lo", index: 1 }, ...known].map(({ name, index }) =>
      linkRequest(index, { up: true }, () => `cannot switch the interface "${name}" on`)
    ),
  );
  known = known.map((device) => ({ ...device, isOn: true }));
}

/** Whether the kernel has IPv6. */
function hasIpv6(): boolean {
  return withIpv6 ??= sys.access("/proc/net/if_inet6", 0) >= 0;
}

let withIpv6: boolean | undefined;

/**
 * Sets the first device up as for a pod, with addresses that are for documentation, and takes that
 * back: the next time is quicker where the machine is emulated.
 */
export function rehearseNetwork(): void {
  const [device] = known;
  if (device === undefined) return;
  const mac = sys.readFile(`/sys/class/net/${device.name}/address`);
  const mtu = sys.readFile(`/sys/class/net/${device.name}/mtu`);
  if (typeof mac === "number" || typeof mtu === "number") return;
  const plan: NetworkPlan = {
    interfaces: [{
      name: device.name,
      device: 0,
      mac: mac.trim(),
      mtu: Number(mtu),
      addresses: REHEARSED_ADDRESSES,
    }],
    routes: [
      { destination: "default", family: "inet", gateway: "192.0.2.1", interface: device.name },
      { destination: "default", family: "inet6", gateway: "2001:db8::1", interface: device.name },
    ],
    neighbours: [],
  };
  const requests = planRequests(plan, known, hasIpv6());
  transact(renameAway(plan.interfaces, known));
  transact(requests);
  const addresses = [
    ...REHEARSED_ADDRESSES.map(parsePrefix),
    ...linkLocalOf(parseMac(mac.trim()), hasIpv6()),
  ];
  transact(
    addresses.map((address) =>
      addressGoneRequest(device.index, address, () => "cannot take an address back")
    ),
  );
}

/**
 * What is sent to the kernel for a plan.
 *
 * @param plan Interfaces, routes and neighbours.
 * @param devices The guest's devices in their order.
 * @param hasIpv6 Whether the kernel has IPv6.
 * @throws AgentError `InvalidArgument`, `NotFound`.
 */
export function planRequests(
  plan: NetworkPlan,
  devices: readonly NetworkDevice[],
  hasIpv6: boolean,
): NetlinkRequest[] {
  const indexes = new Map<string, number>();
  indexes.set("lo", 1);
  const requests: NetlinkRequest[] = [];
  for (const wanted of plan.interfaces) {
    const device = deviceOf(wanted, devices);
    if (indexes.has(wanted.name)) {
      throw new AgentError("InvalidArgument", `two interfaces have the name "${wanted.name}"`);
    }
    indexes.set(wanted.name, device.index);
    for (const request of interfaceRequests(wanted, device, hasIpv6)) requests.push(request);
  }
  for (const route of plan.routes) requests.push(routeOf(route, indexes));
  for (const neighbour of plan.neighbours) requests.push(neighbourOf(neighbour, indexes));
  return requests;
}

/** Takes names that others are to get away from devices that have them now. */
function renameAway(
  interfaces: readonly GuestInterface[],
  devices: readonly NetworkDevice[],
): NetlinkRequest[] {
  const requests: NetlinkRequest[] = [];
  for (let order = 0; order < devices.length; order++) {
    const device = devices[order];
    if (device === undefined || !isTaken(device.name, order, interfaces)) continue;
    const name = `moving${order}`;
    const action = () => `cannot rename the interface "${device.name}" to "${name}"`;
    requests.push(linkRequest(device.index, { name, up: false }, action));
  }
  return requests;
}

/** Whether the name of a device is to be another one's. */
function isTaken(name: string, order: number, interfaces: readonly GuestInterface[]): boolean {
  let isWanted = false;
  for (const wanted of interfaces) {
    if (wanted.name !== name) continue;
    if (wanted.device === order) return false;
    isWanted = true;
  }
  return isWanted;
}

function interfaceRequests(
  wanted: GuestInterface,
  { index, isOn = false }: NetworkDevice,
  hasIpv6: boolean,
): NetlinkRequest[] {
  const { name, mtu } = wanted;
  if (!isInterfaceName(name)) {
    throw new AgentError(
      "InvalidArgument",
      `cannot use "${name}" for an interface: 1 to 15 letters, digits and signs are expected`,
    );
  }
  const mac = parseMac(wanted.mac);
  const what = () => `cannot set up the interface "${name}" (MAC ${wanted.mac}, MTU ${mtu})`;
  // Switching on what is on has the kernel program the device's filters anew.
  const requests = [linkRequest(index, { name, mac, mtu, up: !isOn }, what)];
  const add = (address: IpPrefix) => {
    const action = () => `cannot give the interface "${name}" the address ${formatPrefix(address)}`;
    requests.push(addressRequest(index, address, action));
  };
  for (const address of wanted.addresses) add(parsePrefix(address));
  for (const address of linkLocalOf(mac, hasIpv6)) add(address);
  return requests;
}

/** Whether the kernel takes a name (dev_valid_name) and rtnetlink's text holds it. */
function isInterfaceName(name: string): boolean {
  if (name.length === 0 || name.length > 15 || name === "." || name === "..") return false;
  for (let index = 0; index < name.length; index++) {
    const code = name.charCodeAt(index);
    if (code <= 32 || code >= 127 || code === 47 || code === 58) return false;
  }
  return true;
}

/**
 * The IPv6 address of the link that belongs to a MAC address (RFC 4291, appendix A). The kernel makes
 * none itself: it would be that of the MAC address that the device had when it was switched on.
 */
function linkLocalOf(mac: Uint8Array, hasIpv6: boolean): IpPrefix[] {
  if (!hasIpv6) return [];
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac;
  const bytes = Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f);
  return [{ family: AF_INET6, bytes, prefixLength: 64 }];
}

function routeOf(route: GuestRoute, indexes: ReadonlyMap<string, number>): NetlinkRequest {
  const family = route.family === "inet" ? AF_INET : AF_INET6;
  const action = () =>
    `cannot add the route to ${route.destination}` +
    (route.gateway === undefined ? "" : ` via ${route.gateway}`) +
    ` on "${route.interface}"`;
  const destination = route.destination === "default" ? undefined : parsePrefix(route.destination);
  const gateway = route.gateway === undefined ? undefined : parseAddress(route.gateway);
  const source = route.source === undefined ? undefined : parseAddress(route.source);
  if ((destination ?? source ?? { family }).family !== family) {
    throw new AgentError("InvalidArgument", `${action()}: it is not of the family ${route.family}`);
  }
  const scope = scopeOf(route, gateway !== undefined);
  if (scope === undefined) {
    throw new AgentError(
      "InvalidArgument",
      `${action()}: unknown scope "${route.scope}": one of ${Object.keys(SCOPES).join(", ")}`,
    );
  }
  return routeRequest({
    family,
    destination,
    gateway,
    interfaceIndex: indexOf(route.interface, indexes, action),
    scope,
    source,
    metric: route.metric,
    onlink: route.onlink === true,
  }, action);
}

/** As ip-route(8) chooses: what has no gateway is on the link. IPv6 knows no scopes. */
function scopeOf(route: GuestRoute, hasGateway: boolean): number | undefined {
  if (route.family === "inet6") return SCOPES["global"];
  if (route.scope !== undefined) return SCOPES[route.scope];
  return SCOPES[hasGateway ? "global" : "link"];
}

function neighbourOf(
  neighbour: GuestNeighbour,
  indexes: ReadonlyMap<string, number>,
): NetlinkRequest {
  const action = () =>
    `cannot add the neighbour ${neighbour.address} (${neighbour.mac}) on "${neighbour.interface}"`;
  return neighbourRequest(
    indexOf(neighbour.interface, indexes, action),
    parseAddress(neighbour.address),
    parseMac(neighbour.mac),
    action,
  );
}

function indexOf(name: string, indexes: ReadonlyMap<string, number>, action: () => string): number {
  const index = indexes.get(name);
  if (index !== undefined) return index;
  throw new AgentError("InvalidArgument", `${action()}: the pod has no interface of that name`);
}

function deviceOf(wanted: GuestInterface, devices: readonly NetworkDevice[]): NetworkDevice {
  const device = devices[wanted.device];
  if (device !== undefined) return device;
  throw new AgentError(
    "NotFound",
    `cannot set up the interface "${wanted.name}": the guest has ${devices.length} network ` +
      `devices, and none with the number ${wanted.device}`,
  );
}

/** The devices that were there at the start, with the names that they had. */
let known: readonly NetworkDevice[] = [];

function devicesNeeded(interfaces: readonly GuestInterface[]): number {
  let needed = 0;
  for (const { device } of interfaces) if (device >= needed) needed = device + 1;
  return needed;
}

/** The guest's devices, once there are as many as are needed, or that has lasted too long. */
async function waitForDevices(needed: number): Promise<readonly NetworkDevice[]> {
  let devices = findDevices();
  for (let waitedMs = 0; devices.length < needed && waitedMs < DEVICE_WAIT_MS; waitedMs += 10) {
    await sleep(10);
    devices = findDevices();
  }
  return devices;
}

/** The network devices that have hardware behind them, in the order of the PCI bus. */
function findDevices(): NetworkDevice[] {
  const names = sys.readdir("/sys/class/net");
  if (typeof names === "number") throw systemError("cannot list the network devices", names);
  return names.flatMap((name) => {
    const place = sys.readlink(`/sys/class/net/${name}`);
    if (typeof place === "number" || place.includes("/virtual/")) return [];
    const index = sys.readFile(`/sys/class/net/${name}/ifindex`);
    return typeof index === "number"
      ? []
      : [{ name, index: Number(index), place: busPlace(place) }];
  }).sort((a, b) => (a.place < b.place ? -1 : 1));
}

/** The part of a device's place that is its way over the PCI bus. */
function busPlace(place: string): string {
  const virtio = place.indexOf("/virtio");
  return virtio < 0 ? place : place.slice(0, virtio);
}

/** The socket of rtnetlink; it stays open, for clones to have it. */
let socket = -1;

/** Sends requests and waits for the kernel's word on each. */
function transact(requests: readonly NetlinkRequest[]): void {
  if (requests.length === 0) return;
  if (socket < 0) socket = must("cannot open rtnetlink", sys.netlinkOpen(NETLINK_ROUTE, 0));
  const refused: string[] = [];
  try {
    for (let start = 0; start < requests.length; start += BATCH) {
      const batch = requests.length <= BATCH ? requests : requests.slice(start, start + BATCH);
      transactBatch(batch, refused);
      if (refused.length > 0) break;
    }
  } catch (thrown) {
    // What is still to come would be taken for the answers to the next requests.
    sys.close(socket);
    socket = -1;
    throw thrown;
  }
  if (refused.length > 0) throw new AgentError("FailedPrecondition", refused.join("; "));
}

/** @param refused Takes what the kernel refused. */
function transactBatch(requests: readonly NetlinkRequest[], refused: string[]): void {
  const packed = packRequests(requests);
  must("cannot talk to rtnetlink", sys.write(socket, packed.buffer, 0, packed.length));
  const buffer = new ArrayBuffer(8192);
  for (let answered = 0; answered < requests.length;) {
    const length = must("cannot hear rtnetlink", sys.read(socket, buffer, 0, buffer.byteLength));
    for (const { sequence, errno } of parseAnswers(buffer, length)) {
      answered++;
      const request = requests[sequence - 1];
      if (errno !== 0) refused.push(`${request?.action() ?? "rtnetlink"}: ${errnoName(errno)}`);
    }
  }
}
