/**
 * How names are looked up, in the words of resolv.conf(5).
 *
 * @module
 */

import type { DnsSpec } from "./lifecycle/spec.ts";

/** The text of the file; empty where nothing is said. */
export function resolvConf({ servers, searches, options }: DnsSpec): string {
  return [
    ...(searches.length === 0 ? [] : [`search ${searches.join(" ")}\n`]),
    ...servers.map((server) => `nameserver ${server}\n`),
    ...(options.length === 0 ? [] : [`options ${options.join(" ")}\n`]),
  ].join("");
}
