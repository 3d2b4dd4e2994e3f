/**
 * How fast the streams of containers in microVMs are: a container's output to its log, which
 * containerd writes; an exec's output and input through CRI's streaming server; and how long an exec
 * of `true` takes, by CRI and by our Task API alone. The peer is runc on the same containerd.
 *
 * @module
 */

import { Task } from "../../proto/gen/containerd/task/v3/shim_pb.ts";
import { TtrpcClient } from "../../task/ttrpc/client.ts";
import type { Container, Pod } from "../../tests/support/cri.ts";
import { waitFor } from "../../tests/support/wait.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Goal, type Measurement, OURS } from "../result.ts";
import { type PodContender, RUNC } from "../support/bench_bed.ts";
import {
  podCri,
  runcPeer,
  SLEEPER,
  slowRounds,
  startVmmBed,
  VMM_IMAGE,
  vmmContender,
} from "../support/vmm_bed.ts";
import { ByteExec } from "../support/vmm_exec.ts";

/** How much is done for one sample. */
interface Load {
  /** How much goes out of a container at a time, in blocks. */
  readonly outBlocks: number;
  /** How much goes into one. */
  readonly inBlocks: number;
  /** Execs in a row. */
  readonly execs: number;
}

const LOAD: Load = { outBlocks: 512, inBlocks: 128, execs: 20 };
/** The size of a block: what is written at a time. */
const BLOCK_BYTES = 64 << 10;
/** Execs that warm up before those that count. */
const EXEC_WARM_UPS = 3;
/** How often a log is looked at, in milliseconds. */
const LOOK_MS = 2;
/** How long a container may take to write its log, in milliseconds. */
const LOG_MS = 120_000;
/** The end of a log in which its last line is looked for, in bytes. */
const LOG_TAIL_BYTES = 128;

const OUT_GOALS: readonly Goal[] = [{ kind: "least", atLeast: 20 }];
const EXEC_GOALS: readonly Goal[] = [{ kind: "value", atMost: 60 }];

/** Someone's pod, with a container that sleeps, for all samples. */
interface Target {
  readonly name: string;
  readonly pod: Pod;
  readonly container: Container;
  /** Where our Task API is; undefined for others. */
  readonly taskSocket: string | undefined;
}

/** One sample. */
interface Sample {
  readonly logMbPerS: number;
  readonly outMbPerS: number;
  readonly inMbPerS: number;
  readonly execMs: readonly number[];
  readonly taskExecMs: readonly number[];
}

/**
 * Measures streams and execs.
 *
 * @param context See {@link BenchContext}; with few rounds each does less.
 */
export async function vmmStdio(context: BenchContext): Promise<Measurement[]> {
  const load = loadFor(context);
  await using bed = await startVmmBed({ runc: true });
  using cri = podCri(bed);
  const start = async (
    { name, handler }: PodContender,
    taskSocket: string | undefined,
  ): Promise<Target> => {
    const pod = await cri.runPod({ handler });
    return { name, pod, container: await pod.startContainer(SLEEPER), taskSocket };
  };
  const targets = [
    await start(vmmContender, bed.sandboxer("vmm").paths.taskSocketPath),
    await start(runcPeer, undefined),
  ];
  const contenders = targets.map((target) => ({
    name: target.name,
    sample: () => sampleOf(target, load),
  }));
  const rounds = slowRounds(context, { count: 8, budgetMs: 40_000 });
  const samples = await takeSamples(context, contenders, rounds);
  const series = (values: (sample: Sample) => readonly number[]) =>
    new Map([...samples].map(([name, list]) => [name, list.flatMap(values)]));
  const rate = (name: string, pick: (sample: Sample) => number, goals: readonly Goal[] = []) => ({
    name: `vmm stdio: ${name}`,
    unit: "MB/s" as const,
    peer: RUNC,
    goals,
    series: series((sample) => [pick(sample)]),
  });
  return [
    rate("container to its log", ({ logMbPerS }) => logMbPerS, OUT_GOALS),
    rate("exec to its client", ({ outMbPerS }) => outMbPerS),
    rate("client to an exec", ({ inMbPerS }) => inMbPerS),
    {
      name: "vmm exec of true, warm: CRI",
      unit: "ms",
      peer: RUNC,
      goals: EXEC_GOALS,
      series: series(({ execMs }) => execMs),
    },
    {
      name: "vmm exec of true, warm: Task API",
      unit: "ms",
      goals: EXEC_GOALS,
      series: new Map([[OURS, samples.get(OURS)?.flatMap(({ taskExecMs }) => taskExecMs) ?? []]]),
    },
  ];
}

function loadFor({ runs }: BenchContext): Load {
  if (runs === undefined) return LOAD;
  return {
    outBlocks: Math.min(LOAD.outBlocks, 32 * runs),
    inBlocks: Math.min(LOAD.inBlocks, 16 * runs),
    execs: Math.min(LOAD.execs, 5 * runs),
  };
}

async function sampleOf(target: Target, load: Load): Promise<Sample> {
  const { pod, container, taskSocket } = target;
  const { outBlocks, inBlocks, execs } = load;
  return {
    logMbPerS: await logRate(pod, outBlocks),
    outMbPerS: await outputRate(container, outBlocks),
    inMbPerS: await inputRate(container, inBlocks),
    execMs: await repeated(execs, () => criExec(container)),
    taskExecMs: taskSocket === undefined ? [] : await taskExecs(taskSocket, container.id, execs),
  };
}

/** What a container runs that writes a line, zeros, and a line again. */
function writer(blocks: number): string {
  return `echo begin; dd if=/dev/zero bs=64k count=${blocks} 2>/dev/null; echo; echo end`;
}

/** A container's output to the file that containerd writes. */
async function logRate(pod: Pod, blocks: number): Promise<number> {
  const name = `writer-${crypto.randomUUID().slice(0, 8)}`;
  const options = { name, image: VMM_IMAGE, args: ["-c", writer(blocks)] };
  const container = await pod.createContainer(options);
  const { logPath } = container;
  try {
    const limits = { timeoutMs: LOG_MS, intervalMs: LOOK_MS };
    await container.start();
    await waitFor("a container to write", async () => (await Deno.stat(logPath)).size > 0, limits);
    const begin = performance.now();
    await waitFor("the end of a log", async () => / end\n$/.test(await tail(logPath)), limits);
    const rate = megabytesPerSecond(blocks, performance.now() - begin);
    // What ends just then cannot always be removed by force.
    await container.exited();
    return rate;
  } finally {
    await container.remove();
    await Deno.remove(logPath).catch(() => undefined);
  }
}

/** The end of a file. */
async function tail(path: string): Promise<string> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  await file.seek(Math.max(0, size - LOG_TAIL_BYTES), Deno.SeekMode.Start);
  const bytes = new Uint8Array(LOG_TAIL_BYTES);
  const count = await file.read(bytes) ?? 0;
  return new TextDecoder("latin1").decode(bytes.subarray(0, count));
}

/** An exec's output to its client. */
async function outputRate(container: Container, blocks: number): Promise<number> {
  using exec = await ByteExec.start(container, ["/bin/sh", "-c", writer(blocks)]);
  await exec.ended();
  const { bytes, elapsedMs } = exec.received;
  if (bytes < blocks * BLOCK_BYTES) throw new Error(`an exec's client got ${bytes} bytes only`);
  return megabytesPerSecond(blocks, elapsedMs);
}

/** What a client sends to an exec. */
async function inputRate(container: Container, blocks: number): Promise<number> {
  const count = blocks * BLOCK_BYTES;
  // Not by head(1), which takes bytes one by one: an emulated guest would spend its time in it.
  const read = `dd bs=64k count=${blocks} iflag=fullblock of=/dev/null 2>/dev/null`;
  const script = `echo begin; busybox ${read}; echo end`;
  const cmd = ["/bin/sh", "-c", script];
  using exec = await ByteExec.start(container, cmd, { stdin: true, marks: ["begin", "end"] });
  const begin = await exec.marked("begin");
  await exec.send(count);
  return megabytesPerSecond(blocks, await exec.marked("end") - begin);
}

function megabytesPerSecond(blocks: number, elapsedMs: number): number {
  return blocks * BLOCK_BYTES / 1e6 / (elapsedMs / 1e3);
}

/** The times of something that is done again and again, once it is warm. */
async function repeated(count: number, action: () => Promise<void>): Promise<number[]> {
  const times: number[] = [];
  for (let index = 0; index < EXEC_WARM_UPS + count; index++) {
    const begin = performance.now();
    await action();
    if (index >= EXEC_WARM_UPS) times.push(performance.now() - begin);
  }
  return times;
}

async function criExec(container: Container): Promise<void> {
  const { exitCode } = await container.exec(["/bin/true"]);
  if (exitCode !== 0) throw new Error(`an exec of true ended with ${exitCode}`);
}

/** Execs by our Task API alone, as containerd makes them. */
async function taskExecs(socket: string, id: string, count: number): Promise<number[]> {
  using client = await TtrpcClient.connect(socket, {
    metadata: { "containerd-namespace-ttrpc": "k8s.io" },
  });
  const value = new TextEncoder().encode(JSON.stringify({
    args: ["/bin/true"],
    env: ["PATH=/bin"],
    cwd: "/",
    user: { uid: 0, gid: 0 },
  }));
  const spec = { typeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", value };
  return await repeated(count, async () => {
    const name = { id, execId: crypto.randomUUID() };
    await client.call(Task.method.exec, { ...name, spec });
    await client.call(Task.method.start, name);
    const { exitStatus } = await client.call(Task.method.wait, name);
    await client.call(Task.method.delete, name);
    if (exitStatus !== 0) throw new Error(`an exec of true ended with ${exitStatus}`);
  });
}
