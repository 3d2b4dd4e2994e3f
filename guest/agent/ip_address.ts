/**
 * Internet addresses as text and as bytes: what the host writes in `setup`, and what rtnetlink wants.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import { AF_INET, AF_INET6 } from "./linux.ts";

/** An address without a prefix. */
export interface IpAddress {
  /** AF_INET or AF_INET6. */
  readonly family: number;
  /** 4 or 16 bytes. */
  readonly bytes: Uint8Array;
}

/** An address with the length of its network's prefix. */
export interface IpPrefix extends IpAddress {
  /** 0 to 32 or 128. */
  readonly prefixLength: number;
}

/**
 * Reads an address.
 *
 * @param text Such as `10.0.0.1`, `fe80::1` or `::ffff:10.0.0.1`.
 * @throws AgentError `InvalidArgument` where it is none.
 */
export function parseAddress(text: string): IpAddress {
  const bytes = text.includes(":") ? ipv6Bytes(text) : ipv4Bytes(text);
  if (bytes === undefined) throw invalid(text, "an IPv4 or IPv6 address");
  return { family: bytes.length === 4 ? AF_INET : AF_INET6, bytes };
}

/**
 * Reads an address with a prefix length; without one it is the whole address.
 *
 * @param text Such as `10.0.0.1/24` or `fd00::/8`.
 * @throws AgentError `InvalidArgument` where it is none.
 */
export function parsePrefix(text: string): IpPrefix {
  const slash = text.indexOf("/");
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  const most = address.bytes.length * 8;
  if (slash < 0) return { ...address, prefixLength: most };
  const lengthText = text.slice(slash + 1);
  const prefixLength = /^\d{1,3}$/.test(lengthText) ? Number(lengthText) : most + 1;
  if (prefixLength > most) throw invalid(text, `an address with a prefix of 0 to ${most}`);
  return { ...address, prefixLength };
}

/**
 * The broadcast address of an IPv4 network; undefined where it has none (/31, /32, IPv6).
 *
 * @param prefix An address in the network.
 */
export function broadcastOf(prefix: IpPrefix): Uint8Array | undefined {
  if (prefix.family !== AF_INET || prefix.prefixLength > 30) return undefined;
  return prefix.bytes.map((byte, index) => {
    const fixedBits = Math.min(8, Math.max(0, prefix.prefixLength - index * 8));
    return byte | (0xff >> fixedBits);
  });
}

/**
 * Reads a MAC address.
 *
 * @param text Six bytes in hexadecimal, such as `02:00:00:00:00:01`.
 * @throws AgentError `InvalidArgument` where it is none.
 */
export function parseMac(text: string): Uint8Array {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) throw invalid(text, "a MAC address");
  return Uint8Array.from(text.split(":"), (part) => parseInt(part, 16));
}

function ipv4Bytes(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  if (!parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) <= 255)) return undefined;
  return Uint8Array.from(parts, Number);
}

function ipv6Bytes(text: string): Uint8Array | undefined {
  const gap = text.indexOf("::");
  if (gap < 0) {
    const all = groups(text);
    return all?.length === 16 ? Uint8Array.from(all) : undefined;
  }
  const head = groups(text.slice(0, gap));
  const tail = groups(text.slice(gap + 2));
  if (head === undefined || tail === undefined || head.length + tail.length > 14) return undefined;
  const bytes = new Uint8Array(16);
  bytes.set(head, 0);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** The bytes of groups between colons; the last may be an IPv4 address. */
function groups(text: string): number[] | undefined {
  if (text === "") return [];
  const bytes: number[] = [];
  const parts = text.split(":");
  for (const [index, part] of parts.entries()) {
    if (index === parts.length - 1 && part.includes(".")) {
      const embedded = ipv4Bytes(part);
      if (embedded === undefined) return undefined;
      bytes.push(...embedded);
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(part)) return undefined;
      const value = parseInt(part, 16);
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

function invalid(text: string, expected: string): AgentError {
  return new AgentError("InvalidArgument", `cannot read "${text}": ${expected} is expected`);
}
