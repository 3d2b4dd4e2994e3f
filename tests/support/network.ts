/**
 * Finds a free network for a bed's pods and takes away what CNI left of it: namespaces, cached
 * results and the bridge.
 *
 * @module
 */

import { run } from "./command.ts";
import type { BedNetwork } from "./containerd_config.ts";

/** Where libcni remembers the results of its calls, one file for each pod. */
const CNI_RESULTS = "/var/lib/cni/results";

/**
 * The name of a bed's network and of its bridge.
 *
 * @param directory The directory of the bed, which no other bed has.
 */
export function bedNetworkName(directory: string): string {
  return `qs-${directory.replace(/[^A-Za-z0-9]/g, "").slice(-10).toLowerCase()}`;
}

/**
 * A network with addresses that nobody on this machine uses.
 *
 * @param directory The directory of the bed.
 */
export async function freeNetwork(directory: string): Promise<BedNetwork> {
  const { stdout } = await run(["ip", "-4", "route", "show", "table", "all"]);
  for (let attempt = 0; attempt < 100; attempt++) {
    const [second = 0, third = 0] = crypto.getRandomValues(new Uint8Array(2));
    const prefix = `10.${200 + second % 50}.${third}`;
    if (!stdout.includes(`${prefix}.`)) return { name: bedNetworkName(directory), prefix };
  }
  throw new Error(
    "Cannot choose a network for the pods: all of 10.200.0.0 to 10.249.255.0 is in use",
  );
}

/**
 * Removes what is left of a network: network namespaces of pods that were never removed, their
 * cached results, and the bridge.
 *
 * @param name The network of a bed that has ended.
 */
export async function removeNetwork(name: string): Promise<void> {
  const results = await cachedResults();
  const ours = new Set(
    results.filter(({ path }) => path.startsWith(`${CNI_RESULTS}/${name}-`))
      .map(({ netns }) => netns),
  );
  for (const netns of ours) await removeNamespace(netns);
  // The loopback interface of each pod is cached under a name that all networks share.
  for (const { path, netns } of results) if (ours.has(netns)) await Deno.remove(path);
  await run(["ip", "link", "delete", name], { check: false });
}

/** The cached results of all networks on this machine, with the namespace that each is for. */
async function cachedResults(): Promise<{ path: string; netns: string }[]> {
  const results: { path: string; netns: string }[] = [];
  for (const { name } of await Array.fromAsync(Deno.readDir(CNI_RESULTS)).catch(() => [])) {
    const path = `${CNI_RESULTS}/${name}`;
    const result: unknown = JSON.parse(await Deno.readTextFile(path).catch(() => "null"));
    if (typeof result !== "object" || result === null || !("netns" in result)) continue;
    if (typeof result.netns === "string") results.push({ path, netns: result.netns });
  }
  return results;
}

/** Unpins a network namespace that containerd made. */
async function removeNamespace(path: string): Promise<void> {
  if (!/\/netns\/cni-[\w-]+$/.test(path)) return;
  await run(["umount", "-l", path], { check: false });
  await Deno.remove(path).catch(() => {});
}
