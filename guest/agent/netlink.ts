/**
 * Messages of rtnetlink(7), built byte by byte because the guest has no `ip` program: links,
 * addresses, routes and neighbours. Many requests travel in one datagram; the kernel works through
 * them in order and answers each with an acknowledgement. Nothing here makes a system call.
 *
 * @module
 */

import { AF_INET, AF_INET6 } from "./linux.ts";
import { broadcastOf, type IpAddress, type IpPrefix } from "./ip_address.ts";

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/neighbour.h.
const RTM_NEWLINK = 16;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_NEWROUTE = 24;
const RTM_NEWNEIGH = 28;
const NLMSG_ERROR = 2;
const NLM_F_REQUEST = 0x1;
const NLM_F_ACK = 0x4;
const NLM_F_REPLACE = 0x100;
const NLM_F_CREATE = 0x400;
const IFF_UP = 1;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;
const IFA_F_NODAD = 2;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_VIA = 18;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RTN_UNICAST = 1;
const RTNH_F_ONLINK = 4;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;

const HEADER_BYTES = 16;

/** The numbers of scopes by the names that ip-route(8) gives them. */
export const SCOPES: Readonly<Record<string, number>> = {
  global: 0,
  site: 200,
  link: 253,
  host: 254,
  nowhere: 255,
};

/** One request, ready to be sent. */
export interface NetlinkRequest {
  /** What it does, for errors: `cannot ...`. Nearly nobody asks. */
  readonly action: () => string;
  /** The whole message with its header; the sequence number is still 0. */
  readonly bytes: Uint8Array;
}

/** What the kernel said to one request. */
export interface NetlinkAnswer {
  /** The request's number. */
  readonly sequence: number;
  /** 0, or the positive errno. */
  readonly errno: number;
}

/** What changes of a link. */
export interface LinkChange {
  /** Its new name; missing to keep it. */
  readonly name?: string;
  /** Its new MAC address; missing to keep it. */
  readonly mac?: Uint8Array;
  /** Its new MTU in bytes; missing to keep it. */
  readonly mtu?: number;
  /** Whether it is switched on. */
  readonly up: boolean;
}

/** A route in numbers. */
export interface RouteMessage {
  /** AF_INET or AF_INET6. */
  readonly family: number;
  /** Where to; undefined for everywhere. */
  readonly destination: IpPrefix | undefined;
  /** By way of; undefined for the link itself. */
  readonly gateway: IpAddress | undefined;
  /** The interface's number. */
  readonly interfaceIndex: number;
  /** See {@link SCOPES}. */
  readonly scope: number;
  /** The source of packets; undefined for the kernel's choice. */
  readonly source: IpAddress | undefined;
  /** The metric; undefined for the kernel's choice. */
  readonly metric: number | undefined;
  /** Whether the gateway counts as on the link. */
  readonly onlink: boolean;
}

/** Writes little-endian numbers and attributes into a message that grows. */
class MessageWriter {
  #bytes = new Uint8Array(256);
  #view = new DataView(this.#bytes.buffer);
  #length = HEADER_BYTES;

  u8(value: number): this {
    this.#room(1);
    this.#view.setUint8(this.#length++, value);
    return this;
  }

  u16(value: number): this {
    this.#room(2);
    this.#view.setUint16(this.#length, value, true);
    this.#length += 2;
    return this;
  }

  u32(value: number): this {
    this.#room(4);
    this.#view.setUint32(this.#length, value, true);
    this.#length += 4;
    return this;
  }

  attribute(type: number, payload: Uint8Array): this {
    this.u16(4 + payload.length).u16(type);
    this.#room(payload.length + 3);
    this.#bytes.set(payload, this.#length);
    this.#length += (payload.length + 3) & ~3;
    return this;
  }

  attribute32(type: number, value: number): this {
    return this.u16(8).u16(type).u32(value);
  }

  finish(type: number, flags: number): Uint8Array {
    this.#view.setUint32(0, this.#length, true);
    this.#view.setUint16(4, type, true);
    this.#view.setUint16(6, NLM_F_REQUEST | NLM_F_ACK | flags, true);
    return this.#bytes.slice(0, this.#length);
  }

  #room(bytes: number): void {
    if (this.#length + bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(2 * this.#bytes.length + bytes);
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}

/**
 * Changes a link: address, MTU and name first, then up, as the kernel does it in one request.
 *
 * @param index The interface's number.
 * @param change What to change.
 * @param action For errors.
 */
export function linkRequest(
  index: number,
  change: LinkChange,
  action: () => string,
): NetlinkRequest {
  const up = change.up ? IFF_UP : 0;
  // struct ifinfomsg: family, padding, type, index, flags, mask of flags that change.
  const writer = new MessageWriter().u8(0).u8(0).u16(0).u32(index).u32(up).u32(up);
  if (change.name !== undefined) writer.attribute(IFLA_IFNAME, nameBytes(change.name));
  if (change.mac !== undefined) writer.attribute(IFLA_ADDRESS, change.mac);
  if (change.mtu !== undefined) writer.attribute32(IFLA_MTU, change.mtu);
  return { action, bytes: writer.finish(RTM_NEWLINK, 0) };
}

/**
 * Adds an address. One that is there already is fine. IPv6 addresses are usable at once: the pod's
 * network on the host has made sure that they are unique.
 *
 * @param index The interface's number.
 * @param address The address with its prefix.
 * @param action For errors.
 */
export function addressRequest(
  index: number,
  address: IpPrefix,
  action: () => string,
): NetlinkRequest {
  const flags = address.family === AF_INET6 ? IFA_F_NODAD : 0;
  // struct ifaddrmsg: family, prefix length, flags, scope, index.
  const writer = new MessageWriter().u8(address.family).u8(address.prefixLength).u8(flags)
    .u8(scopeOf(address)).u32(index);
  writer.attribute(IFA_LOCAL, address.bytes).attribute(IFA_ADDRESS, address.bytes);
  const broadcast = broadcastOf(address);
  if (broadcast !== undefined) writer.attribute(IFA_BROADCAST, broadcast);
  return { action, bytes: writer.finish(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE) };
}

/**
 * Takes an address away.
 *
 * @param index The interface's number.
 * @param address The address with its prefix.
 * @param action For errors.
 */
export function addressGoneRequest(
  index: number,
  address: IpPrefix,
  action: () => string,
): NetlinkRequest {
  const writer = new MessageWriter().u8(address.family).u8(address.prefixLength).u8(0).u8(0)
    .u32(index);
  writer.attribute(IFA_LOCAL, address.bytes).attribute(IFA_ADDRESS, address.bytes);
  return { action, bytes: writer.finish(RTM_DELADDR, 0) };
}

/**
 * Adds a route, or replaces the one with the same destination and metric.
 *
 * @param route The route.
 * @param action For errors.
 */
export function routeRequest(route: RouteMessage, action: () => string): NetlinkRequest {
  // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags.
  const writer = new MessageWriter().u8(route.family).u8(route.destination?.prefixLength ?? 0).u8(0)
    .u8(0).u8(RT_TABLE_MAIN).u8(RTPROT_BOOT).u8(route.scope).u8(RTN_UNICAST)
    .u32(route.onlink ? RTNH_F_ONLINK : 0);
  if (route.destination !== undefined) writer.attribute(RTA_DST, route.destination.bytes);
  if (route.gateway !== undefined) gatewayAttribute(writer, route.family, route.gateway);
  writer.attribute32(RTA_OIF, route.interfaceIndex);
  if (route.source !== undefined) writer.attribute(RTA_PREFSRC, route.source.bytes);
  if (route.metric !== undefined) writer.attribute32(RTA_PRIORITY, route.metric);
  return { action, bytes: writer.finish(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE) };
}

/**
 * Adds a neighbour for good.
 *
 * @param index The interface's number.
 * @param address Its address.
 * @param mac Its MAC address.
 * @param action For errors.
 */
export function neighbourRequest(
  index: number,
  address: IpAddress,
  mac: Uint8Array,
  action: () => string,
): NetlinkRequest {
  // struct ndmsg: family, padding, index, state, flags, type.
  const writer = new MessageWriter().u8(address.family).u8(0).u16(0).u32(index)
    .u16(NUD_PERMANENT).u8(0).u8(0);
  writer.attribute(NDA_DST, address.bytes).attribute(NDA_LLADDR, mac);
  return { action, bytes: writer.finish(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE) };
}

/**
 * Puts requests into one datagram, numbered from 1 in their order.
 *
 * @param requests At least one.
 */
export function packRequests(requests: readonly NetlinkRequest[]): Uint8Array<ArrayBuffer> {
  let total = 0;
  for (const { bytes } of requests) total += (bytes.length + 3) & ~3;
  const packed = new Uint8Array(total);
  const view = new DataView(packed.buffer);
  let offset = 0;
  let sequence = 0;
  for (const { bytes } of requests) {
    packed.set(bytes, offset);
    view.setUint32(offset + 8, ++sequence, true);
    offset += (bytes.length + 3) & ~3;
  }
  return packed;
}

/**
 * The acknowledgements in a datagram of the kernel; other messages are passed over.
 *
 * @param buffer What was read.
 * @param length How many bytes of it.
 */
export function parseAnswers(buffer: ArrayBuffer, length: number): NetlinkAnswer[] {
  const view = new DataView(buffer, 0, length);
  const answers: NetlinkAnswer[] = [];
  let offset = 0;
  while (offset + HEADER_BYTES <= length) {
    const size = view.getUint32(offset, true);
    if (size < HEADER_BYTES || offset + size > length) break;
    if (view.getUint16(offset + 4, true) === NLMSG_ERROR && size >= HEADER_BYTES + 4) {
      answers.push({
        sequence: view.getUint32(offset + 8, true),
        errno: Math.abs(view.getInt32(offset + HEADER_BYTES, true)),
      });
    }
    offset += (size + 3) & ~3;
  }
  return answers;
}

/** A gateway of the route's own family, or of the other one (RFC 5549). */
function gatewayAttribute(writer: MessageWriter, family: number, gateway: IpAddress): void {
  if (gateway.family === family) {
    writer.attribute(RTA_GATEWAY, gateway.bytes);
    return;
  }
  const via = new Uint8Array(2 + gateway.bytes.length);
  via[0] = gateway.family;
  via.set(gateway.bytes, 2);
  writer.attribute(RTA_VIA, via);
}

/** Loopback addresses are of the host; for IPv6 the kernel sees to it itself. */
function scopeOf(address: IpAddress): number {
  return address.family === AF_INET && address.bytes[0] === 127 ? 254 : 0;
}

/** An interface's name with the zero at its end; names are checked before. */
function nameBytes(name: string): Uint8Array {
  const bytes = new Uint8Array(name.length + 1);
  for (let index = 0; index < name.length; index++) bytes[index] = name.charCodeAt(index);
  return bytes;
}
