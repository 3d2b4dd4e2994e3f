/**
 * What a process for each pod costs: the same pods on threads of the sandboxer and in processes of
 * their own, through CRI: start, memory, exec.
 *
 * @module
 */

import type { Bed } from "../../tests/support/bed.ts";
import type { Container, Cri } from "../../tests/support/cri.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import { type Measurement, OURS } from "../result.ts";
import {
  type PodContender,
  runPods,
  startBenchBed,
  wasmContender,
  wasmProcessContender,
} from "../support/bench_bed.ts";
import { podProcesses, processMemory } from "../support/process_memory.ts";

/** Pods of which the memory is read. */
const PODS = 20;

/** Execs in each pod that is started. */
const EXECS = 5;

/** How long memory may take to settle, in milliseconds. */
const SETTLE_MS = 2_000;

const PEER = wasmProcessContender.name;

const CONTENDERS = [wasmContender, wasmProcessContender];

/** What one pod took, in milliseconds. */
interface PodTimes {
  readonly startMs: number;
  readonly execMs: readonly number[];
}

/**
 * Measures both levels of isolation.
 *
 * @param context See {@link BenchContext}.
 */
export async function isolation(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startBenchBed(CONTENDERS);
  using cri = bed.cri();
  const contenders = CONTENDERS.map((contender) => ({
    name: contender.name,
    sample: () => onePod(cri, contender),
  }));
  const rounds = { count: 30, warmUps: 2, budgetMs: 20_000 };
  const samples = await takeSamples(context, contenders, rounds);
  const measurement = { unit: "ms", peer: PEER } as const;
  return [
    {
      ...measurement,
      name: "isolation: start of a pod with a container",
      series: seriesOf(samples, ({ startMs }) => startMs),
    },
    {
      ...measurement,
      name: "isolation: exec",
      series: new Map(
        [...samples].map(([name, list]) => [name, list.flatMap(({ execMs }) => execMs)]),
      ),
    },
    {
      name: "isolation: memory for each pod: PSS",
      unit: "KiB",
      peer: PEER,
      series: new Map([
        [OURS, [await memoryPerPod(bed, cri, wasmContender)]],
        [PEER, [await memoryPerPod(bed, cri, wasmProcessContender)]],
      ]),
    },
  ];
}

/** Starts a pod with a container, executes something in it, and removes it. */
async function onePod(cri: Cri, contender: PodContender): Promise<PodTimes> {
  const { container, handler, annotations = {} } = contender;
  const prepared = await cri.preparePod({ handler, annotations });
  const begin = performance.now();
  await using running = await cri.runPrepared(prepared);
  const started = await running.startContainer(container);
  const startMs = performance.now() - begin;
  await started.printed("sleeping");
  const execMs: number[] = [];
  for (let index = 0; index < EXECS; index++) execMs.push(await timeExec(started));
  return { startMs, execMs };
}

/** The milliseconds of one exec. */
async function timeExec(container: Container): Promise<number> {
  const begin = performance.now();
  const { exitCode } = await container.exec(["/hello.wasm"]);
  if (exitCode !== 0) throw new Error(`an exec ended with status ${exitCode}`);
  return performance.now() - begin;
}

/** What each of some pods adds, in KiB: to the sandboxer and in processes of its own. */
async function memoryPerPod(bed: Bed, cri: Cri, contender: PodContender): Promise<number> {
  const before = await wholePss(bed);
  await runPods(cri, contender, PODS);
  try {
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    return (await wholePss(bed) - before) * 1024 / PODS;
  } finally {
    await cri.removeAllPods();
  }
}

/** The proportional memory of the sandboxer and of all pod processes, in MiB. */
async function wholePss(bed: Bed): Promise<number> {
  const { process, paths } = bed.sandboxer("wasm");
  const pids = [process.pid, ...await podProcesses(paths.runDirectory)];
  const all = await Promise.all(pids.map(processMemory));
  return all.reduce((sum, { pssMiB }) => sum + pssMiB, 0);
}
