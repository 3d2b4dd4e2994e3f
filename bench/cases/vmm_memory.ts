/**
 * What microVM pods cost in memory: each VMM with its guest, beyond the template that all clones
 * share; machines that wait in the pool; and the sandboxer with its helpers, without pods and for
 * each pod. Read once per run: all wait in idleness meanwhile.
 *
 * @module
 */

import type { Bed } from "../../tests/support/bed.ts";
import type { Cri, Pod } from "../../tests/support/cri.ts";
import type { BenchContext } from "../benchmark.ts";
import { type Goal, type Measurement, OURS, type Unit } from "../result.ts";
import { loneProcessMemory, processMemory } from "../support/process_memory.ts";
import { podCri, poolFull, SLEEPER, startVmmBed, vmmContender } from "../support/vmm_bed.ts";
import {
  sandboxerHelpers,
  treeServers,
  type VmmMemory,
  vmmMemory,
  vmmProcesses,
} from "../support/vmm_processes.ts";

/** How many pods, machines in the pool, and pods with a shared tree. */
const COUNTS = { pods: 10, pool: 4, shared: 2 };

/** How many pods or containers are started at a time. */
const AT_ONCE = 2;

/** How often memory is read, and how long to wait before each reading, in milliseconds. */
const READINGS = { count: 3, intervalMs: 1_000 };

const GOALS = {
  idle: 45,
  pooled: 20,
  sandboxer: 75,
  podKiB: 100,
} as const;

/** How much there is of everything. */
interface Counts {
  readonly pods: number;
  readonly pool: number;
  readonly shared: number;
  readonly readings: number;
}

/** What was read of pods: each VMM at each reading. */
interface PodReadings {
  readonly vmms: readonly VmmMemory[];
  /** The sandboxer and its helpers, in MiB. */
  readonly sandboxer: readonly number[];
}

/**
 * Measures memory.
 *
 * @param context See {@link BenchContext}; with a number of rounds, that many times two pods at most.
 */
export async function vmmMemoryUse(context: BenchContext): Promise<Measurement[]> {
  const counts = countsFor(context);
  await using bed = await startVmmBed({ pool: counts.pool });
  using cri = podCri(bed);
  const reader = new Reader(context, bed, counts.readings);
  await poolFull(bed, counts.pool);
  const none = await reader.sandboxer("sandboxer without pods");
  const pooled = await reader.vmms("machines in the pool", false);
  // What a first pod leaves in the sandboxer is not a pod's: code that was compiled, a larger heap.
  await withPods(cri, counts.pods, async (pods) => await startSleepers(pods));
  await poolFull(bed, counts.pool);
  const before = await reader.sandboxer("sandboxer after its first pods");
  const [empty, busy] = await withPods(cri, counts.pods, async (pods) => {
    await poolFull(bed, counts.pool);
    const idle = await reader.pods("pods without containers");
    await startSleepers(pods);
    return [idle, await reader.pods("pods with a container")] as const;
  });
  const template = await templateMiB(bed);
  const shared = await sharedPodMemory(bed, cri, reader, counts.shared);
  const perPod = (after: readonly number[]) => {
    const base = Math.min(...before);
    return after.map((one) => (one - base) * 1024 / counts.pods);
  };
  const own = (readings: readonly VmmMemory[]) => readings.map(({ ownMiB }) => ownMiB);
  const pods = `${counts.pods} pods`;
  return [
    measurement("vmm memory, no pods: sandboxer", none, atMost(GOALS.sandboxer)),
    measurement("vmm memory, for each pod: sandboxer", perPod(empty.sandboxer), {
      ...atMost(GOALS.podKiB),
      unit: "KiB",
    }),
    measurement(`vmm memory, ${pods} with a container: sandboxer`, busy.sandboxer),
    measurement("vmm memory, in the pool: beyond the template", own(pooled), atMost(GOALS.pooled)),
    measurement(
      "vmm memory, pod without containers: beyond the template",
      own(empty.vmms),
      atMost(GOALS.idle),
    ),
    measurement("vmm memory, pod with a container: beyond the template", own(busy.vmms)),
    measurement("vmm memory, pod with a container: pages of the template", [
      ...busy.vmms.map(({ templateMiB }) => templateMiB),
    ]),
    measurement("vmm memory, template, once for all pods", [template]),
    measurement("vmm memory, pod with a shared tree: VMM", shared.vmms),
    measurement("vmm memory, pod with a shared tree: file server", shared.servers),
  ];
}

function countsFor({ runs }: BenchContext): Counts {
  if (runs === undefined) return { ...COUNTS, readings: READINGS.count };
  const few = 2 * runs;
  return {
    pods: Math.min(COUNTS.pods, few),
    pool: Math.min(COUNTS.pool, runs),
    shared: Math.min(COUNTS.shared, runs),
    readings: Math.min(READINGS.count, runs),
  };
}

/** Reads several times, each time after a pause. */
class Reader {
  readonly #context: BenchContext;
  readonly #bed: Bed;
  readonly #count: number;

  constructor(context: BenchContext, bed: Bed, count: number) {
    this.#context = context;
    this.#bed = bed;
    this.#count = count;
  }

  get #state(): string {
    return this.#bed.sandboxer("vmm").paths.stateDirectory;
  }

  /** The sandboxer and its helpers together, in MiB. */
  async sandboxer(what: string): Promise<number[]> {
    return await this.#readings(what, () => this.#sandboxerMiB());
  }

  /** All VMMs of pods, or all that belong to none. */
  async vmms(what: string, isTaken: boolean): Promise<VmmMemory[]> {
    return (await this.#readings(what, () => this.#vmms(isTaken))).flat();
  }

  /** Pods, and the sandboxer meanwhile. */
  async pods(what: string): Promise<PodReadings> {
    const readings = await this.#readings(what, async () => ({
      vmms: await this.#vmms(true),
      sandboxer: await this.#sandboxerMiB(),
    }));
    return {
      vmms: readings.flatMap(({ vmms }) => vmms),
      sandboxer: readings.map(({ sandboxer }) => sandboxer),
    };
  }

  /** The file servers of shared trees together, in MiB. */
  async treeServers(what: string): Promise<number[]> {
    return await this.#readings(what, async () => await pssMiB(await treeServers(this.#state)));
  }

  async #readings<T>(what: string, read: () => Promise<T>): Promise<T[]> {
    const { signal, progress } = this.#context;
    const values: T[] = [];
    for (let index = 0; index < this.#count; index++) {
      signal.throwIfAborted();
      progress.step(index, this.#count, what);
      await new Promise((resolve) => setTimeout(resolve, READINGS.intervalMs));
      values.push(await read());
    }
    return values;
  }

  async #sandboxerMiB(): Promise<number> {
    const { pid } = this.#bed.sandboxer("vmm").process;
    const own = await loneProcessMemory(pid);
    const helpers = await sandboxerHelpers(pid);
    if (helpers.length < 2) {
      throw new Error(`found ${helpers.length} helpers of the sandboxer, expected 2 or more`);
    }
    return own.pssMiB + await pssMiB(helpers);
  }

  async #vmms(isTaken: boolean): Promise<VmmMemory[]> {
    const all = (await vmmProcesses(this.#state)).filter((one) => one.isTaken === isTaken);
    // A machine that had to be booted has no template that it shares.
    const vmms = all.filter(({ isClone }) => isClone);
    if (vmms.length === 0) {
      throw new Error(`cannot read the memory of clones: none among ${all.length} machines`);
    }
    return await Promise.all(vmms.map(({ pid }) => vmmMemory(pid, this.#state)));
  }
}

/** Pods whose trees of files are shared with the host: they have memory of their own. */
async function sharedPodMemory(bed: Bed, cri: Cri, reader: Reader, count: number) {
  const annotations = { "quasaur.dev/share-fs": "virtiofs" };
  return await withPods(cri, count, async (pods) => {
    await startSleepers(pods);
    const vmms = await reader.vmms("pods with a shared tree", true);
    const servers = await reader.treeServers("file servers of shared trees");
    const { stateDirectory } = bed.sandboxer("vmm").paths;
    if ((await treeServers(stateDirectory)).length === 0) {
      throw new Error("found no file server of a pod with a shared tree");
    }
    return {
      vmms: vmms.map(({ ownMiB, templateMiB }) => ownMiB + templateMiB),
      servers: servers.map((all) => all / count),
    };
  }, annotations);
}

/** Does something while pods run, which have no container yet. */
async function withPods<T>(
  cri: Cri,
  count: number,
  action: (pods: readonly Pod[]) => Promise<T>,
  annotations: Record<string, string> = {},
): Promise<T> {
  const { handler } = vmmContender;
  try {
    const pods: Pod[] = [];
    // Few at a time: what a burst takes for a moment is not what pods cost.
    while (pods.length < count) {
      const next = Array.from({ length: Math.min(AT_ONCE, count - pods.length) });
      pods.push(...await Promise.all(next.map(() => cri.runPod({ handler, annotations }))));
    }
    return await action(pods);
  } finally {
    await cri.removeAllPods();
  }
}

async function startSleepers(pods: readonly Pod[]): Promise<void> {
  for (let index = 0; index < pods.length; index += AT_ONCE) {
    const next = pods.slice(index, index + AT_ONCE);
    await Promise.all(next.map((pod) => pod.startContainer(SLEEPER)));
  }
}

/** What the templates of the sandboxer take. */
async function templateMiB(bed: Bed): Promise<number> {
  const { stateDirectory } = bed.sandboxer("vmm").paths;
  let bytes = 0;
  for await (const { name, isDirectory } of Deno.readDir(`${stateDirectory}/templates`)) {
    if (!isDirectory) continue;
    const directory = `${stateDirectory}/templates/${name}`;
    for await (const file of Deno.readDir(directory)) {
      bytes += ((await Deno.lstat(`${directory}/${file.name}`)).blocks ?? 0) * 512;
    }
  }
  if (bytes === 0) throw new Error(`found no template in ${stateDirectory}/templates`);
  return bytes / 2 ** 20;
}

async function pssMiB(pids: readonly number[]): Promise<number> {
  const all = await Promise.all(pids.map(processMemory));
  return all.reduce((sum, { pssMiB }) => sum + pssMiB, 0);
}

function atMost(value: number): { readonly goals: readonly Goal[]; readonly unit?: Unit } {
  return { goals: [{ kind: "value", atMost: value }] };
}

function measurement(
  name: string,
  values: readonly number[],
  more: { readonly goals?: readonly Goal[]; readonly unit?: Unit } = {},
): Measurement {
  return { name, unit: "MiB", series: new Map([[OURS, values]]), ...more };
}
