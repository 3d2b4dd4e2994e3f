/**
 * Takes away the beds of test runs that were killed: their processes, mounts, networks and files.
 *
 * @module
 */

import { removeCgroup } from "./cgroups.ts";
import { killLeftProcesses } from "./left_processes.ts";
import { unmountBelow } from "./mount_table.ts";
import { bedNetworkName, removeNetwork } from "./network.ts";
import { identify, runningPid } from "./process_identity.ts";
import { killShims } from "./shims.ts";

/** The file of a bed that names the process it belongs to. */
const OWNER_FILE = "owner.pid";

/**
 * Writes down that a bed belongs to this process.
 *
 * @param directory The bed's directory.
 */
export async function claimBed(directory: string): Promise<void> {
  await Deno.writeTextFile(`${directory}/${OWNER_FILE}`, await identify(Deno.pid) ?? "");
}

/**
 * Removes all beds whose process is gone.
 *
 * @param parent The directory that holds the beds.
 * @param prefix How their names begin.
 */
export async function sweepStaleBeds(parent: string, prefix: string): Promise<void> {
  for (const { name } of await Array.fromAsync(Deno.readDir(parent)).catch(() => [])) {
    const directory = `${parent}/${name}`;
    if (!name.startsWith(prefix)) continue;
    const owner = await Deno.readTextFile(`${directory}/${OWNER_FILE}`).catch(() => undefined);
    // Without the file it is not a bed, or one that is just being made.
    if (owner === undefined || await runningPid(owner) !== undefined) continue;
    await removeBed(directory);
  }
}

/** Ends what still runs of a bed and removes it. */
async function removeBed(directory: string): Promise<void> {
  for (const { name } of await Array.fromAsync(Deno.readDir(directory))) {
    if (!name.endsWith(".pid")) continue;
    const pid = await runningPid(await Deno.readTextFile(`${directory}/${name}`));
    if (pid !== undefined) Deno.kill(pid, "SIGKILL");
  }
  await killShims(`${directory}/containerd.sock`, `${directory}/state`);
  // Microvms outlive their sandboxer.
  await killLeftProcesses(directory, await stateDirectories(directory), 0);
  await removeNetwork(bedNetworkName(directory));
  await unmountBelow(directory);
  await removeCgroup(`/${directory.split("/").at(-1)}`);
  await Deno.remove(directory, { recursive: true });
}

/** The state directories of a bed's sandboxers, whichever there were. */
async function stateDirectories(directory: string): Promise<string[]> {
  const parent = `${directory}/quasaur`;
  const entries = await Array.fromAsync(Deno.readDir(parent)).catch(() => []);
  return entries.filter(({ isDirectory }) => isDirectory).map(({ name }) => `${parent}/${name}`);
}
