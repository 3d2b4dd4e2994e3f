/**
 * How many pods one sandboxer holds, what each costs in memory, and whether it still answers: a
 * thousand through CRI, each with a container that sleeps, and five thousand guests through the SDK.
 *
 * @module
 */

import type { Cri, Pod } from "../../tests/support/cri.ts";
import { tail } from "../../tests/support/command.ts";
import { REPOSITORY } from "../../tests/support/permissions.ts";
import { type BenchContext, partOf } from "../benchmark.ts";
import { type Measurement, OURS } from "../result.ts";
import { startBenchBed, wasmContender } from "../support/bench_bed.ts";
import type { DensityReport } from "../support/density_child.ts";
import { guestPath } from "../support/guests.ts";
import { loneProcessMemory } from "../support/process_memory.ts";
import { within } from "../support/within.ts";

/** Pods through CRI: how many, how many at the same time, and how long starting them may take. */
const CRI_PODS = { count: 1_000, atOnce: 12, budgetMs: 150_000 };

/** Guests through the SDK. */
const SDK_GUESTS = 5_000;

/** Execs while all pods run, each in another pod. */
const EXECS = 50;

/** How long guests of the SDK may take, in milliseconds. */
const SDK_TIMEOUT_MS = 120_000;

/** Before memory is read. */
const SETTLE_MS = 3_000;

/**
 * Measures density.
 *
 * @param context See {@link BenchContext}.
 */
export async function density(context: BenchContext): Promise<Measurement[]> {
  const throughCri = await manyPods(context);
  const throughSdk = await manyGuests(context);
  const series = (values: readonly number[]) => new Map([[OURS, values]]);
  return [
    {
      name: "density: pods that run through CRI",
      unit: "pods",
      series: series([throughCri.running]),
      goals: [{ kind: "least", atLeast: CRI_PODS.count }],
    },
    {
      name: `density: exec beside ${throughCri.running} pods`,
      unit: "ms",
      series: series(throughCri.execMs),
      goals: [{ kind: "value", atMost: 100 }],
    },
    {
      name: `density: memory for each of ${throughCri.running} pods: PSS`,
      unit: "KiB",
      series: series([throughCri.podKiB]),
      goals: [{ kind: "value", atMost: 250 }],
    },
    {
      name: `density: start of a pod among ${throughCri.running}`,
      unit: "ms",
      series: series(throughCri.startMs),
    },
    {
      name: "density: guests that run through the SDK",
      unit: "pods",
      series: series([throughSdk.running]),
      goals: [{ kind: "least", atLeast: SDK_GUESTS }],
    },
    {
      name: `density: memory for each of ${throughSdk.running} guests: PSS`,
      unit: "KiB",
      series: series([throughSdk.guestKiB]),
      goals: [{ kind: "value", atMost: 250 }],
    },
    {
      name: `density: start of ${throughSdk.running} guests`,
      unit: "ms",
      series: series([throughSdk.startMs]),
    },
  ];
}

/** What many pods came to. */
interface PodsReport {
  readonly running: number;
  readonly startMs: readonly number[];
  readonly execMs: readonly number[];
  readonly podKiB: number;
}

/** Runs pods until there are as many as wanted, or the time is over. */
async function manyPods(context: BenchContext): Promise<PodsReport> {
  await using bed = await startBenchBed([wasmContender]);
  using cri = bed.cri();
  const { pid } = bed.sandboxer("wasm").process;
  const wanted = partOf(context, CRI_PODS.count);
  // The first pods bring what all of them use, compiled code among it.
  await startPods(context, cri, 2);
  await settle();
  const before = await loneProcessMemory(pid);
  const { pods, startMs } = await startPods(context, cri, wanted);
  try {
    await settle();
    const after = await loneProcessMemory(pid);
    const execMs = await execEverywhere(context, pods);
    return {
      running: pods.length,
      startMs,
      execMs,
      podKiB: (after.pssMiB - before.pssMiB) * 1024 / pods.length,
    };
  } finally {
    await removePods(context, cri);
  }
}

/** A pod with the name of its container. */
interface RunningPod {
  readonly pod: Pod;
  readonly exec: (cmd: string[]) => Promise<{ readonly exitCode: number }>;
}

async function startPods(
  { signal, progress }: BenchContext,
  cri: Cri,
  count: number,
): Promise<{ readonly pods: readonly RunningPod[]; readonly startMs: readonly number[] }> {
  const { handler, container } = wasmContender;
  const pods: RunningPod[] = [];
  const startMs: number[] = [];
  const end = performance.now() + CRI_PODS.budgetMs;
  let next = 0;
  const worker = async () => {
    while (next < count && performance.now() < end) {
      next++;
      signal.throwIfAborted();
      const prepared = await cri.preparePod({ handler });
      const begin = performance.now();
      const pod = await cri.runPrepared(prepared);
      const started = await pod.startContainer(container);
      startMs.push(performance.now() - begin);
      pods.push({ pod, exec: (cmd) => started.exec(cmd) });
      progress.step(pods.length, count, "pods");
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: CRI_PODS.atOnce }, worker));
  const failed = outcomes.find((one) => one.status === "rejected");
  if (failed !== undefined) {
    await removePods({ signal, progress }, cri);
    throw failed.reason;
  }
  return { pods, startMs };
}

/** Executes something in some of the pods, one after the other. */
async function execEverywhere(
  { signal, progress }: BenchContext,
  pods: readonly RunningPod[],
): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < EXECS; index++) {
    signal.throwIfAborted();
    const { exec } = pods[Math.floor(index * pods.length / EXECS)] ?? {};
    if (exec === undefined) break;
    progress.step(index, EXECS, "exec");
    const begin = performance.now();
    const { exitCode } = await exec(["/hello.wasm"]);
    times.push(performance.now() - begin);
    if (exitCode !== 0) throw new Error(`an exec ended with status ${exitCode}`);
  }
  return times;
}

/** Removes all pods, some at once: containerd is not made for a thousand at the same time. */
async function removePods(
  { progress }: Pick<BenchContext, "signal" | "progress">,
  cri: Cri,
): Promise<void> {
  const ids = await cri.podIds();
  let next = 0;
  const worker = async () => {
    for (let id = ids[next++]; id !== undefined; id = ids[next++]) {
      await cri.removePod(id);
      progress.step(next, ids.length, "pods removed");
    }
  };
  await Promise.all(Array.from({ length: CRI_PODS.atOnce }, worker));
}

/** Runs guests through the SDK in a process of its own. */
async function manyGuests(context: BenchContext): Promise<DensityReport> {
  const count = partOf(context, SDK_GUESTS);
  context.signal.throwIfAborted();
  context.progress.step(0, count, "guests of the SDK");
  const directory = await Deno.makeTempDir({ prefix: "quasaur-density-" });
  try {
    await Deno.copyFile(guestPath("cat"), `${directory}/cat.wasm`);
    const program = `${REPOSITORY}/bench/support/density_child.ts`;
    const command = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", program, directory, `${count}`],
      cwd: REPOSITORY,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    });
    await using child = command.spawn();
    const [stdout, stderr] = await within(SDK_TIMEOUT_MS, "guests of the SDK", outputs(child));
    await child.stdin.close();
    const { code } = await child.status;
    if (code !== 0) throw new Error(`cannot run ${count} guests: status ${code}\n${tail(stderr)}`);
    const report: DensityReport = JSON.parse(tail(stdout, 1));
    return report;
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** What a process writes to both outputs. */
async function outputs(child: Deno.ChildProcess): Promise<readonly [string, string]> {
  return await Promise.all([child.stdout.text(), child.stderr.text()]);
}

async function settle(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}
