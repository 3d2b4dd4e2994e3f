/**
 * What managing pods costs in memory: one sandboxer, without pods, with fifty and after them, against
 * the shims that runc needs for as many. Taken once per run: both wait in idleness while they are read.
 *
 * @module
 */

import type { Bed } from "../../tests/support/bed.ts";
import type { Cri } from "../../tests/support/cri.ts";
import { shimPids } from "../../tests/support/shims.ts";
import type { BenchContext } from "../benchmark.ts";
import { type Goal, type Measurement, OURS } from "../result.ts";
import {
  type PodContender,
  RUNC,
  runcContender,
  runPods,
  startBenchBed,
  wasmContender,
} from "../support/bench_bed.ts";
import { loneProcessMemory, type ProcessMemory, processMemory } from "../support/process_memory.ts";

/** Readings by contender. */
type Readings = ReadonlyMap<string, readonly ProcessMemory[]>;

/** How many pods. */
const PODS = 50;

/** How often memory is read, and how long to wait before each reading, in milliseconds. */
const READINGS = { count: 5, intervalMs: 1_000 };

/** How much a sandboxer may take before it has a pod. */
const IDLE_GOAL: Goal = { kind: "value", atMost: 70 };

/**
 * Measures memory.
 *
 * @param context See {@link BenchContext}.
 */
export async function memory(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startBenchBed([wasmContender, runcContender]);
  using cri = bed.cri();
  const { process } = bed.sandboxer("wasm");
  const readOurs = () => loneProcessMemory(process.pid);
  const idle = await readings(context, "sandboxer without pods", readOurs);
  const ours = await withPods(
    cri,
    wasmContender,
    () => readings(context, `sandboxer with ${PODS} pods`, readOurs),
  );
  const after = await readings(context, "sandboxer after its pods", readOurs);
  const shims = await withPods(
    cri,
    runcContender,
    () => readings(context, `shims of ${PODS} runc pods`, () => shimMemory(bed)),
  );

  const none: Readings = new Map([[OURS, idle]]);
  const noneAgain: Readings = new Map([[OURS, after]]);
  const many: Readings = new Map([[OURS, ours], [RUNC, shims]]);
  const idlePss = Math.min(...idle.map(({ pssMiB }) => pssMiB));
  return [
    measurement("memory, no pods: PSS", none, ({ pssMiB }) => pssMiB, [IDLE_GOAL]),
    measurement("memory, no pods: RSS", none, ({ rssMiB }) => rssMiB),
    measurement("memory, no pods: anonymous", none, ({ anonymousMiB }) => anonymousMiB),
    measurement(`memory, ${PODS} pods: PSS`, many, ({ pssMiB }) => pssMiB),
    measurement(`memory, ${PODS} pods: RSS`, many, ({ rssMiB }) => rssMiB),
    measurement(`memory, ${PODS} pods: anonymous`, many, ({ anonymousMiB }) => anonymousMiB),
    measurement(`memory, after ${PODS} pods: PSS`, noneAgain, ({ pssMiB }) => pssMiB),
    {
      name: "memory for each pod: PSS",
      unit: "MiB",
      peer: RUNC,
      series: new Map([
        [OURS, ours.map(({ pssMiB }) => (pssMiB - idlePss) / PODS)],
        [RUNC, shims.map(({ pssMiB }) => pssMiB / PODS)],
      ]),
    },
  ];
}

/** Does something while pods run. */
async function withPods<T>(
  cri: Cri,
  contender: PodContender,
  action: () => Promise<T>,
): Promise<T> {
  await runPods(cri, contender, PODS);
  try {
    return await action();
  } finally {
    await cri.removeAllPods();
  }
}

/** Reads memory several times. */
async function readings(
  { signal, progress }: BenchContext,
  what: string,
  read: () => Promise<ProcessMemory>,
): Promise<ProcessMemory[]> {
  const values: ProcessMemory[] = [];
  for (let index = 0; index < READINGS.count; index++) {
    signal.throwIfAborted();
    progress.step(index, READINGS.count, what);
    await new Promise((resolve) => setTimeout(resolve, READINGS.intervalMs));
    values.push(await read());
  }
  return values;
}

/** The memory of all shims together; pages that all map count once, not once for each. */
async function shimMemory(bed: Bed): Promise<ProcessMemory> {
  const pids = await shimPids(bed.containerd.socketPath);
  if (pids.length !== PODS) throw new Error(`found ${pids.length} shims, expected ${PODS}`);
  const all = await Promise.all(pids.map(processMemory));
  const sum = (pick: (one: ProcessMemory) => number) => all.reduce((n, one) => n + pick(one), 0);
  return {
    pssMiB: sum(({ pssMiB }) => pssMiB),
    rssMiB: sum(({ rssMiB }) => rssMiB),
    anonymousMiB: sum(({ anonymousMiB }) => anonymousMiB),
  };
}

/** One number of all readings. */
function measurement(
  name: string,
  readings: Readings,
  pick: (reading: ProcessMemory) => number,
  goals: readonly Goal[] = [],
): Measurement {
  return {
    name,
    unit: "MiB",
    goals,
    ...(readings.has(RUNC) ? { peer: RUNC } : {}),
    series: new Map([...readings].map(([who, values]) => [who, values.map(pick)])),
  };
}
