/**
 * The addresses of a pod's interfaces. runsc takes them off when gVisor's own network takes their
 * place, and never gives them back; but CNI plugins find by them what there is to be undone on the
 * host, such as rules for the translation of addresses. So they are written down before, and put back
 * when the sandbox has ended.
 *
 * @module
 */

import type { Launcher } from "../../host/launcher.ts";
import { runInNetns } from "../../host/netns.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";
import { surplusDefaultRoutes } from "./default_routes.ts";

/** Most addresses of a pod that are put back. */
const ADDRESSES_MAX = 64;

/** An address of an interface. */
export interface PodAddress {
  /** The interface's name. */
  readonly device: string;
  /** The address with the length of its network's prefix, such as `10.0.0.2/24`. */
  readonly address: string;
}

/**
 * Gets the interfaces of a pod ready for gVisor's own network, before its sandbox is started: writes
 * down their addresses, and leaves it one default route: see {@link surplusDefaultRoutes}.
 *
 * @param launcher The host launcher.
 * @param spec The pod; nothing is done for one without a network namespace.
 * @param directory The pod's own directory.
 * @throws {SandboxError} `NotFound` where the namespace is missing.
 */
export async function readyInterfaces(
  launcher: Launcher,
  { id, network }: Pick<SandboxSpec, "id" | "network">,
  directory: string,
  signal?: AbortSignal,
): Promise<void> {
  if (network.kind !== "namespace") return;
  const action = `cannot look at the network of sandbox "${id}"`;
  const { path: netns } = network;
  const commands = ["addr show", "route show table all"];
  const look = { netns, program: "ip", commands } as const;
  const [text = ""] = await runInNetns(launcher, action, [look], { signal });
  // A line for each command.
  const [links = "", routes = ""] = text.split("\n");
  const surplus = surplusDefaultRoutes(routes);
  if (surplus.length > 0) {
    const step = { netns, program: "ip", commands: surplus, isOptional: true } as const;
    await runInNetns(launcher, `cannot choose a route for sandbox "${id}"`, [step], { signal });
  }
  const addresses = parseAddresses(links);
  if (addresses.length === 0) return;
  const saved = JSON.stringify({ netns, addresses });
  await Deno.writeTextFile(fileOf(directory), saved).catch((error) => {
    throw SandboxError.from(error, `cannot write down the addresses of sandbox "${id}"`);
  });
}

/**
 * Puts the addresses back, once the sandbox has ended. Where the namespace is gone meanwhile, or was
 * changed, there is nothing to do.
 *
 * @param launcher The host launcher.
 * @param directory The pod's own directory, as {@link readyInterfaces} was told of it.
 */
export async function giveBackAddresses(
  launcher: Launcher,
  directory: string,
): Promise<void> {
  const file = fileOf(directory);
  const saved = fields(await Deno.readTextFile(file).catch(() => ""));
  const netns = saved.get("netns");
  if (typeof netns !== "string") return;
  const commands = readSaved(saved.get("addresses")).map(({ device, address }) =>
    // Nobody is asked whether an address of the pod is free: it was the pod's all the time.
    `addr add ${address} dev ${device}${address.includes(":") ? " nodad" : ""}`
  );
  if (commands.length === 0) return;
  const action = `cannot give "${netns}" its addresses back`;
  const step = { netns, program: "ip", commands, isOptional: true } as const;
  await runInNetns(launcher, action, [step]);
  await Deno.remove(file).catch(() => undefined);
}

/**
 * The addresses that runsc takes off: those of interfaces that are up, but for the loopback, and but
 * for those that the kernel makes by itself.
 *
 * @param text What `ip -json addr show` says.
 */
export function parseAddresses(text: string): PodAddress[] {
  return objects(parsed(text)).flatMap((link) => {
    const device = link.get("ifname");
    const flags = link.get("flags");
    const isUp = Array.isArray(flags) && flags.includes("UP") && !flags.includes("LOOPBACK");
    if (!isUp || typeof device !== "string") return [];
    return objects(link.get("addr_info")).flatMap((info) => {
      const [local, prefix, scope] = ["local", "prefixlen", "scope"].map((name) => info.get(name));
      if (typeof local !== "string" || typeof prefix !== "number" || scope !== "global") return [];
      return [{ device, address: `${local}/${prefix}` }];
    });
  }).filter(isPlain).slice(0, ADDRESSES_MAX);
}

function readSaved(list: unknown): PodAddress[] {
  return objects(list).flatMap((entry) => {
    const [device, address] = [entry.get("device"), entry.get("address")];
    return typeof device === "string" && typeof address === "string" ? [{ device, address }] : [];
  }).filter(isPlain);
}

/** Whether it is one word each: it becomes part of a command. */
function isPlain({ device, address }: PodAddress): boolean {
  return /^[^\s/"'\\]{1,15}$/.test(device) && /^[0-9a-f.:]+\/\d{1,3}$/i.test(address);
}

/** The objects of a list; none for anything else. */
function objects(list: unknown): ReadonlyMap<string, unknown>[] {
  return Array.isArray(list) ? list.map(fields) : [];
}

/** The fields of an object, or of a text that is one; none for anything else. */
function fields(value: unknown): ReadonlyMap<string, unknown> {
  const found = typeof value === "string" ? parsed(value) : value;
  return new Map(typeof found === "object" && found !== null ? Object.entries(found) : []);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function fileOf(directory: string): string {
  return `${directory}/addresses.json`;
}
