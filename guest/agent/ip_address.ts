/**
 * Internet addresses as text and as bytes: what the host writes in `setup`, and what rtnetlink wants.
 *
 * @module
 */

import { AgentError } from "../protocol/agent_error.ts";
import { AF_INET, AF_INET6 } from "./linux.ts";

const COLON = 58;

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
  const bytes = hasColon(text) ? ipv6Bytes(text) : ipv4Bytes(text);
  if (bytes === undefined) throw invalid(text, "an IPv4 or IPv6 address");
  return { family: bytes.length === 4 ? AF_INET : AF_INET6, bytes };
}

/** Whether an address is one of IPv6. */
export function hasColon(address: string): boolean {
  return address.indexOf(":") >= 0;
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
  if (slash < 0) return { family: address.family, bytes: address.bytes, prefixLength: most };
  const prefixLength = readNumber(text.slice(slash + 1), 10, 3);
  if (prefixLength < 0 || prefixLength > most) {
    throw invalid(text, `an address with a prefix of 0 to ${most}`);
  }
  return { family: address.family, bytes: address.bytes, prefixLength };
}

/** An address with its prefix as text, for people. */
export function formatPrefix({ bytes, prefixLength }: IpPrefix): string {
  if (bytes.length === 4) return `${bytes.join(".")}/${prefixLength}`;
  const groups = Array.from(
    { length: 8 },
    (_, index) => ((bytes[2 * index] ?? 0) << 8 | (bytes[2 * index + 1] ?? 0)).toString(16),
  );
  return `${groups.join(":").replace(/(^|:)0(:0)+(:|$)/, "::")}/${prefixLength}`;
}

/**
 * The broadcast address of an IPv4 network; undefined where it has none (/31, /32, IPv6).
 *
 * @param prefix An address in the network.
 */
export function broadcastOf(prefix: IpPrefix): Uint8Array | undefined {
  if (prefix.family !== AF_INET || prefix.prefixLength > 30) return undefined;
  const broadcast = new Uint8Array(4);
  for (let index = 0; index < 4; index++) {
    const fixedBits = Math.min(8, Math.max(0, prefix.prefixLength - index * 8));
    broadcast[index] = (prefix.bytes[index] ?? 0) | (0xff >> fixedBits);
  }
  return broadcast;
}

/**
 * Reads a MAC address.
 *
 * @param text Six bytes in hexadecimal, such as `02:00:00:00:00:01`.
 * @throws AgentError `InvalidArgument` where it is none.
 */
export function parseMac(text: string): Uint8Array {
  const bytes = new Uint8Array(6);
  let isMac = text.length === 17;
  for (let index = 0; isMac && index < 6; index++) {
    const start = 3 * index;
    const byte = readNumber(text.slice(start, start + 2), 16, 2);
    if (byte < 0 || index < 5 && text.charCodeAt(start + 2) !== COLON) isMac = false;
    else bytes[index] = byte;
  }
  if (!isMac) throw invalid(text, "a MAC address");
  return bytes;
}

function ipv4Bytes(text: string): Uint8Array | undefined {
  const bytes = new Uint8Array(4);
  let start = 0;
  for (let index = 0; index < 4; index++) {
    const dot = text.indexOf(".", start);
    // Behind the last number nothing follows, and behind the others something does.
    if (dot < 0 !== (index === 3)) return undefined;
    const end = dot < 0 ? text.length : dot;
    const byte = readNumber(text.slice(start, end), 10, 3);
    if (byte < 0 || byte > 255) return undefined;
    bytes[index] = byte;
    start = end + 1;
  }
  return bytes;
}

/**
 * Reads a number of a few digits; -1 for anything else. A loop and no pattern: an emulated guest has
 * to translate every piece of machine code that runs for the first time, and this is on the way of
 * a fresh clone.
 */
function readNumber(text: string, base: 10 | 16, digitsMax: number): number {
  if (text.length === 0 || text.length > digitsMax) return -1;
  let number = 0;
  for (let index = 0; index < text.length; index++) {
    const digit = digitOf(text.charCodeAt(index));
    if (digit >= base) return -1;
    number = number * base + digit;
  }
  return number;
}

function digitOf(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  const letter = code | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : 99;
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
      const value = readNumber(part, 16, 4);
      if (value < 0) return undefined;
      bytes.push(value >> 8, value & 0xff);
    }
  }
  return bytes;
}

function invalid(text: string, expected: string): AgentError {
  return new AgentError("InvalidArgument", `cannot read "${text}": ${expected} is expected`);
}
