/**
 * What programs pay for an application kernel: how many system calls they make in a second, and how
 * long they take to walk through, read and write many files, on the platform that was chosen. The
 * peer is runc on the same containerd.
 *
 * @module
 */

import type { Container, Cri } from "../../tests/support/cri.ts";
import type { TarEntry } from "../../tests/support/tar.ts";
import { type BenchContext, partOf, takeSamples } from "../benchmark.ts";
import { type Measurement, OURS } from "../result.ts";
import { type PodContender, RUNC } from "../support/bench_bed.ts";
import {
  gvisorContender,
  quarkRounds,
  quarkRuncPeer,
  startQuarkBed,
} from "../support/quark_bed.ts";
import { ByteExec } from "../support/vmm_exec.ts";

/** Loops of system calls: how each is told, what `calls` is given, and how often. */
const CALLS: readonly { readonly name: string; readonly loop: string; readonly count: number }[] = [
  { name: "getpid", loop: "getpid", count: 200_000 },
  { name: "write and read a pipe", loop: "pipe", count: 60_000 },
  { name: "write and read a file", loop: "file", count: 20_000 },
];

/** A tree like that of a small distribution: how many files, in how many directories. */
const TREE = { directories: 40, filesEach: 48, bytes: 3_400 };
/** Files that are written, each of one line. */
const WRITES = 200;
/** Where the tree is in containers. */
const ROOT = "/tree";

/** What is done with the tree, in this order; the first `find` finds it as the image has left it. */
const STEPS: readonly { readonly name: string; readonly script: string }[] = [
  { name: "find, first time", script: `busybox find ${ROOT} >/dev/null` },
  { name: "find, again", script: `busybox find ${ROOT} >/dev/null` },
  { name: "stat all", script: `busybox find ${ROOT} -type f -size +0 >/dev/null` },
  { name: "read all", script: `busybox find ${ROOT} -type f | busybox xargs cat >/dev/null` },
  {
    name: `write ${WRITES} small files`,
    script: `mkdir -p ${ROOT}/new; i=0; ` +
      `while [ $i -lt ${WRITES} ]; do echo line >${ROOT}/new/$i; i=$((i+1)); done`,
  },
];

/** What one container came to. */
interface Sample {
  /** Calls in a second, for each of {@link CALLS}. */
  readonly rates: readonly number[];
  /** Milliseconds, for each of {@link STEPS}. */
  readonly stepMs: readonly number[];
}

/**
 * Measures loops inside of containers.
 *
 * @param context See {@link BenchContext}.
 */
export async function quarkLoops(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startQuarkBed({ files: tree() });
  using cri = bed.cri();
  const contenders = [gvisorContender, quarkRuncPeer].map((contender) => ({
    name: contender.name,
    sample: () => inFreshPod(context, cri, contender),
  }));
  const rounds = quarkRounds(context, { count: 10, budgetMs: 60_000 });
  const samples = await takeSamples<Sample>(context, contenders, rounds);
  const series = (pick: (sample: Sample) => number | undefined) =>
    new Map([OURS, RUNC].map((who) => {
      return [who, (samples.get(who) ?? []).map((one) => pick(one) ?? NaN)];
    }));
  return [
    ...CALLS.map(({ name }, index): Measurement => ({
      name: `gvisor calls: ${name}`,
      unit: "calls/s",
      peer: RUNC,
      series: series(({ rates }) => rates[index]),
    })),
    ...STEPS.map(({ name }, index): Measurement => ({
      name: `gvisor files: ${name}`,
      unit: "ms",
      peer: RUNC,
      series: series(({ stepMs }) => stepMs[index]),
    })),
  ];
}

/** The tree's files as entries of an image. */
function tree(): TarEntry[] {
  const data = new TextEncoder().encode("line of a file\n".repeat(TREE.bytes / 15)).slice();
  const count = TREE.directories * TREE.filesEach;
  return Array.from({ length: count }, (_, index) => ({
    kind: "file",
    path: `tree/d${index % TREE.directories}/f${index}`,
    data,
    mode: 0o644,
  }));
}

/** Does everything in a container of a new pod, which has read nothing yet. */
async function inFreshPod(
  context: BenchContext,
  cri: Cri,
  { handler, container: options }: PodContender,
): Promise<Sample> {
  await using pod = await cri.runPod({ handler });
  const container = await pod.startContainer(options);
  const stepMs = await stepTimes(container);
  const rates: number[] = [];
  for (const { loop, count } of CALLS) {
    // Where a quick look is wanted: no fewer than take a moment.
    const times = Math.max(partOf(context, count), 2_000);
    rates.push(await callRate(container, loop, times));
  }
  return { rates, stepMs };
}

/** Runs a loop of system calls. */
async function callRate(container: Container, loop: string, count: number): Promise<number> {
  const command = ["/calls", loop, `${count}`, "/tmp/block"];
  const { exitCode, stdout, stderr } = await container.exec(command);
  if (exitCode !== 0) throw new Error(`"${command.join(" ")}" ended with ${exitCode}: ${stderr}`);
  return Number(stdout);
}

/** Runs all steps in one shell, which says when each is done. */
async function stepTimes(container: Container): Promise<number[]> {
  const marks = ["begin", ...STEPS.map((_, index) => `done${index}`)];
  const script = [
    "echo begin",
    ...STEPS.map(({ script }, index) => `{ ${script}; } && echo done${index}`),
  ].join("\n");
  using exec = await ByteExec.start(container, ["/bin/sh", "-ec", script], { marks });
  const at: number[] = [];
  for (const mark of marks) at.push(await exec.marked(mark));
  return STEPS.map((_, index) => (at[index + 1] ?? NaN) - (at[index] ?? NaN));
}
