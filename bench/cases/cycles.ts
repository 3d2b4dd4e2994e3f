/**
 * What is left of containers that are gone: ten thousand are created, run and deleted, and then
 * memory, descriptors, threads, mounts, mappings and files are looked at. A smaller number of pods
 * goes the whole way through CRI.
 *
 * @module
 */

import type { Bed } from "../../tests/support/bed.ts";
import { run, tail } from "../../tests/support/command.ts";
import type { Cri } from "../../tests/support/cri.ts";
import { leaks, type Snapshot, snapshot } from "../../tests/support/leaks.ts";
import { REPOSITORY } from "../../tests/support/permissions.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { type BenchContext, partOf } from "../benchmark.ts";
import { type Measurement, OURS, type Unit } from "../result.ts";
import { startBenchBed, wasmContender } from "../support/bench_bed.ts";
import type { CyclesReport } from "../support/cycles_child.ts";
import { processMemory } from "../support/process_memory.ts";

/** How many cycles, and after how many memory is read first. */
const CYCLES = { count: 10_000, first: 1_000 };

/** The same through CRI. */
const CRI_CYCLES = { count: 200, first: 40, atOnce: 4 };

/** How long all cycles of the lifecycle may take, in milliseconds. */
const TIMEOUT_MS = 180_000;

/** How long what is gone may take to be gone, in milliseconds. */
const SETTLE_TIMEOUT_MS = 20_000;

/**
 * Measures what cycles leave.
 *
 * @param context See {@link BenchContext}.
 */
export async function cycles(context: BenchContext): Promise<Measurement[]> {
  const count = partOf(context, CYCLES.count);
  const first = partOf(context, CYCLES.first);
  context.progress.step(0, 2, `${count} cycles`);
  const report = await lifecycleCycles(count, first);
  context.signal.throwIfAborted();
  context.progress.step(1, 2, "cycles through CRI");
  const throughCri = await criCycles(context);
  for (const [index, what] of [...report.left, ...throughCri.left].entries()) {
    context.progress.step(index, report.left.length, what);
  }
  return [
    one(`${count} cycles: memory grown after the first ${first}`, "MiB", report.grownMiB, 5),
    one(`${count} cycles: anonymous memory grown`, "MiB", report.grownAnonymousMiB),
    one(`${count} cycles: things left`, "left", report.left.length, 0),
    one("one cycle of create, run, delete", "ms", report.cycleMs),
    one(`${throughCri.count} pods through CRI: memory grown`, "MiB", throughCri.grownMiB),
    one(`${throughCri.count} pods through CRI: things left`, "left", throughCri.left.length, 0),
  ];
}

/** One number, with a limit or without. */
function one(name: string, unit: Unit, value: number, atMost?: number): Measurement {
  return {
    name,
    unit,
    series: new Map([[OURS, [value]]]),
    goals: atMost === undefined ? [] : [{ kind: "value", atMost }],
  };
}

/** Runs cycles in a process of their own, with its files in memory as on a node. */
async function lifecycleCycles(count: number, first: number): Promise<CyclesReport> {
  const directory = await Deno.makeTempDir({ dir: "/dev/shm", prefix: "quasaur-cycles-" });
  try {
    const program = `${REPOSITORY}/bench/support/cycles_child.ts`;
    const flags = ["--v8-flags=--optimize-for-size,--expose-gc"];
    const args = [directory, `${count}`, `${first}`];
    const { stdout } = await run(
      [Deno.execPath(), "run", "-A", ...flags, program, ...args],
      { timeoutMs: TIMEOUT_MS, cwd: REPOSITORY },
    );
    const report: CyclesReport = JSON.parse(tail(stdout, 1));
    return report;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** What pods that went through CRI have left. */
interface CriReport {
  readonly count: number;
  readonly grownMiB: number;
  readonly left: readonly string[];
}

/** Runs pods through CRI, some at once, and removes them. */
async function criCycles(context: BenchContext): Promise<CriReport> {
  await using bed = await startBenchBed([wasmContender]);
  using cri = bed.cri();
  const { pid } = bed.sandboxer("wasm").process;
  const count = partOf(context, CRI_CYCLES.count);
  await runCycles(cri, CRI_CYCLES.first);
  const [things, memory] = [await look(bed), await processMemory(pid)];
  await runCycles(cri, count);
  let left: string[] = [];
  await waitFor("everything to be gone", async () => {
    left = leaks(things, await look(bed));
    return left.length === 0;
  }, { timeoutMs: SETTLE_TIMEOUT_MS }).catch(() => {});
  return { count, grownMiB: (await processMemory(pid)).pssMiB - memory.pssMiB, left };
}

async function runCycles(cri: Cri, count: number): Promise<void> {
  const { handler, container } = wasmContender;
  let next = 0;
  const worker = async () => {
    while (next++ < count) {
      await using pod = await cri.runPod({ handler });
      const command = ["/hello.wasm"];
      const { exitCode } = await pod.runContainer({ ...container, command }, 60_000);
      if (exitCode !== 0) throw new Error(`a container ended with status ${exitCode}`);
    }
  };
  await Promise.all(Array.from({ length: CRI_CYCLES.atOnce }, worker));
}

/** What there is of pods. */
async function look(bed: Bed): Promise<Snapshot> {
  const { state, directory } = bed.containerd;
  const { process, paths } = bed.sandboxer("wasm");
  return await snapshot({
    mountsBelow: [directory],
    filesBelow: [
      `${state}/io.containerd.runtime.v2.task`,
      `${state}/io.containerd.grpc.v1.cri`,
      paths.runDirectory,
    ],
    pid: process.pid,
  });
}
