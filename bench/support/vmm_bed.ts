/**
 * The test bed of benchmarks of microVMs: as that of the others, with pods that have a network of
 * their own, and an image that runc and microVMs run alike.
 *
 * @module
 */

import { Bed } from "../../tests/support/bed.ts";
import type { ContainerOptions, Cri } from "../../tests/support/cri.ts";
import { busyboxImage } from "../../tests/support/oci_image.ts";
import { sandboxerProgram } from "../../tests/support/sandboxer.ts";
import type { TarEntry } from "../../tests/support/tar.ts";
import { waitFor } from "../../tests/support/wait.ts";
import type { BenchContext } from "../benchmark.ts";
import type { Rounds } from "../interleave.ts";
import { OURS } from "../result.ts";
import { type PodContender, RUNC } from "./bench_bed.ts";
import { vmmProcesses } from "./vmm_processes.ts";

/** The image of all containers. */
export const VMM_IMAGE = "quasaur.test/bench-vmm:1";

/** A container that says that it runs and then sleeps. */
export const SLEEPER: ContainerOptions = {
  image: VMM_IMAGE,
  args: ["-c", "echo sleeping; exec sleep 3600"],
};

/** Our microVMs. */
export const vmmContender: PodContender = {
  name: OURS,
  handler: "quasaur-vmm",
  sandboxer: "vmm",
  container: SLEEPER,
};

/** The runtime that most nodes have, with the same image. */
export const runcPeer: PodContender = { name: RUNC, handler: "runc", container: SLEEPER };

/** How long filling a pool may take, in milliseconds: a template may have to be made first. */
const POOL_MS = 120_000;

/**
 * Rounds of machines that take seconds: one warms up, but none where a single one is asked for.
 *
 * @param context What the benchmark was given.
 * @param rounds How many, where the caller leaves that open, and how long at most in milliseconds.
 */
export function slowRounds(
  { runs }: BenchContext,
  rounds: Pick<Rounds, "count" | "budgetMs">,
): Rounds {
  return { ...rounds, warmUps: runs === 1 ? 0 : 1 };
}

/** What a bed has. */
export interface VmmBedOptions {
  /** How many machines its sandboxer keeps ready. Default none. */
  readonly pool?: number;
  /** More of its sandboxer's vmm.toml, any table but `[storage]` and `[template]`. */
  readonly config?: string;
  /** Whether pods of runc can run too. Default false. */
  readonly runc?: boolean;
  /** Files of the image beside busybox. */
  readonly files?: readonly TarEntry[];
}

/**
 * Starts a bed with a vmm sandboxer.
 *
 * @param options What it has.
 */
export async function startVmmBed(options: VmmBedOptions = {}): Promise<Bed> {
  const { pool = 0, config = "", runc = false, files = [] } = options;
  const program = { ...sandboxerProgram("vmm"), config: `[template]\npool = ${pool}\n${config}` };
  const bed = await Bed.start({ kinds: [program], runc, logLevel: "info", runInMemory: true });
  try {
    await bed.containerd.importImage(await busyboxImage(VMM_IMAGE, { files }));
    return bed;
  } catch (error) {
    await bed[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * A connection to a bed's CRI whose pods have a network of their own.
 *
 * @param bed The bed.
 */
export function podCri(bed: Bed): Cri {
  const cri = bed.cri();
  cri.network = "pod";
  return cri;
}

/**
 * Waits until the sandboxer of a bed has all machines ready that it keeps, so that it does not make
 * them while something is measured.
 *
 * @param bed The bed; its sandboxer takes note of each machine that is ready.
 * @param count How many it keeps.
 */
export async function poolFull(bed: Bed, count: number): Promise<void> {
  const { stateDirectory } = bed.sandboxer("vmm").paths;
  await waitFor(`${count} machines that are ready`, async () => {
    const noted = await Array.fromAsync(Deno.readDir(`${stateDirectory}/ledger`));
    const ids = new Set(noted.map(({ name }) => name.replace(/\.json$/, "")));
    const vmms = await vmmProcesses(stateDirectory);
    return vmms.filter((one) => one.isClone && !one.isTaken && ids.has(one.id)).length === count;
  }, { timeoutMs: POOL_MS, intervalMs: 50 });
}
