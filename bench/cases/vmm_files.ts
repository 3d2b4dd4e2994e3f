/**
 * How fast containers in microVMs read and write files: on the root file system, which is a block
 * device with an overlay in the guest's memory, and in a directory of the host that is shared by
 * virtiofs. The peer is runc, on its root file system.
 *
 * @module
 */

import type { Container, Cri } from "../../tests/support/cri.ts";
import type { TarEntry } from "../../tests/support/tar.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Measurement, OURS } from "../result.ts";
import { type PodContender, RUNC } from "../support/bench_bed.ts";
import {
  podCri,
  runcPeer,
  SLEEPER,
  slowRounds,
  startVmmBed,
  vmmContender,
} from "../support/vmm_bed.ts";
import { ByteExec } from "../support/vmm_exec.ts";

/** A tree like that of a small distribution: how many files, in how many directories. */
const TREE = { directories: 40, filesEach: 48, bytes: 3_400 };
/** Files that are written, each of one line. */
const WRITES = 200;

/** Where the tree is in containers: in their image, and shared. */
const IN_IMAGE = "/tree";
const SHARED = "/shared";

/** Names in the results. */
const VIRTIOFS = "ours, virtiofs";

/** What is done with a tree, in this order; the first `find` finds it as the host has left it. */
const STEPS: readonly { readonly name: string; readonly script: (root: string) => string }[] = [
  { name: "find, first time", script: find },
  { name: "find, again", script: find },
  {
    name: "read all",
    script: (root) => `busybox find ${root} -type f | busybox xargs cat >/dev/null`,
  },
  {
    name: `write ${WRITES} small files`,
    script: (root) =>
      `mkdir -p ${root}/new; i=0; ` +
      `while [ $i -lt ${WRITES} ]; do echo line >${root}/new/$i; i=$((i+1)); done`,
  },
];

/** The times of all steps in one tree, in milliseconds. */
type StepTimes = readonly number[];

/**
 * Measures files.
 *
 * @param context See {@link BenchContext}.
 */
export async function vmmFiles(context: BenchContext): Promise<Measurement[]> {
  const files = tree();
  await using bed = await startVmmBed({ runc: true, files });
  using cri = podCri(bed);
  const contender = (name: string, of: PodContender, root: string) => ({
    name,
    sample: async () => {
      const shared = root === SHARED ? await hostTree(bed.directory, files) : undefined;
      try {
        return await inFreshPod(cri, of, shared, (container) => timesIn(container, root));
      } finally {
        if (shared !== undefined) await Deno.remove(shared, { recursive: true });
      }
    },
  });
  const contenders = [
    contender(OURS, vmmContender, IN_IMAGE),
    contender(VIRTIOFS, vmmContender, SHARED),
    contender(RUNC, runcPeer, IN_IMAGE),
  ];
  const rounds = slowRounds(context, { count: 8, budgetMs: 40_000 });
  const samples = await takeSamples<StepTimes>(context, contenders, rounds);
  return STEPS.map(({ name }, index) => ({
    name: `vmm files: ${name}`,
    unit: "ms",
    peer: VIRTIOFS,
    series: new Map([...samples].map(([who, list]) => [who, list.map((one) => one[index] ?? NaN)])),
  }));
}

function find(root: string): string {
  return `busybox find ${root} >/dev/null`;
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

/** The same tree on the host, new for each pod, as nobody else writes to it. */
async function hostTree(parent: string, files: readonly TarEntry[]): Promise<string> {
  const root = await Deno.makeTempDir({ dir: parent, prefix: "shared-" });
  await Deno.chmod(root, 0o755);
  for (let index = 0; index < TREE.directories; index++) await Deno.mkdir(`${root}/d${index}`);
  for (const entry of files) {
    if (entry.kind !== "file") continue;
    await Deno.writeFile(`${root}/${entry.path.replace(/^tree\//, "")}`, entry.data);
  }
  return root;
}

/** Does something in a container of a new pod, which has read nothing yet. */
async function inFreshPod<T>(
  cri: Cri,
  { handler }: PodContender,
  shared: string | undefined,
  action: (container: Container) => Promise<T>,
): Promise<T> {
  await using pod = await cri.runPod({ handler });
  const mounts = shared === undefined ? [] : [{ hostPath: shared, containerPath: SHARED }];
  return await action(await pod.startContainer({ ...SLEEPER, mounts }));
}

/** Runs all steps in one shell, which says when each is done. */
async function timesIn(container: Container, root: string): Promise<StepTimes> {
  const marks = ["begin", ...STEPS.map((_, index) => `done${index}`)];
  const script = [
    "echo begin",
    ...STEPS.map(({ script }, index) => `{ ${script(root)}; } && echo done${index}`),
  ].join("\n");
  using exec = await ByteExec.start(container, ["/bin/sh", "-ec", script], { marks });
  const at: number[] = [];
  for (const mark of marks) at.push(await exec.marked(mark));
  return STEPS.map((_, index) => (at[index + 1] ?? NaN) - (at[index] ?? NaN));
}
