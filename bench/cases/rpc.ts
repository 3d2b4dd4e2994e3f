/**
 * How fast the Task API answers: State of a running container over ttrpc, from a client process of
 * its own, with one call and with fifty calls in flight. The peer is the shim of a runc pod.
 *
 * @module
 */

import type { Bed } from "../../tests/support/bed.ts";
import { run } from "../../tests/support/command.ts";
import { REPOSITORY } from "../../tests/support/permissions.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { type Goal, type Measurement, OURS } from "../result.ts";
import {
  RUNC,
  runcContender,
  runPods,
  startBenchBed,
  wasmContender,
} from "../support/bench_bed.ts";
import type { RpcReport } from "../support/rpc_client.ts";

/** Where a contender serves the Task API, and a container to ask for. */
interface Target {
  readonly name: string;
  readonly socketPath: string;
  readonly containerId: string;
}

/** How a load is made. */
interface Load {
  readonly inFlight: number;
  readonly calls: number;
  readonly goals: readonly Goal[];
}

const LOADS: readonly Load[] = [
  { inFlight: 1, calls: 8_000, goals: [{ kind: "value", atMost: 0.1 }] },
  { inFlight: 50, calls: 40_000, goals: [] },
];

/** How long one client process may take, in milliseconds. */
const CLIENT_TIMEOUT_MS = 45_000;

/** The directory of a containerd's bundles, below its state directory. */
const BUNDLES = "io.containerd.runtime.v2.task/k8s.io";

/**
 * Measures Task.State.
 *
 * @param context See {@link BenchContext}.
 */
export async function rpc(context: BenchContext): Promise<Measurement[]> {
  await using bed = await startBenchBed([wasmContender, runcContender]);
  const targets = await startTargets(bed);
  const measurements: Measurement[] = [];
  for (const load of LOADS) {
    const contenders = targets.map((target) => ({
      name: target.name,
      sample: () => runClient(target, load),
    }));
    const rounds = { count: 5, warmUps: 0, budgetMs: 20_000 };
    measurements.push(...measured(load, await takeSamples(context, contenders, rounds)));
  }
  return measurements;
}

/** A running container of each contender, and where to ask for it. */
async function startTargets(bed: Bed): Promise<Target[]> {
  using cri = bed.cri();
  const ours = (await runPods(cri, wasmContender, 1)).pods[0];
  const runc = (await runPods(cri, runcContender, 1)).pods[0];
  if (ours === undefined || runc === undefined) throw new Error("the pods did not start");
  const bundle = `${bed.containerd.state}/${BUNDLES}/${runc.pod.id}`;
  return [
    {
      name: OURS,
      socketPath: bed.sandboxer("wasm").paths.taskSocketPath,
      containerId: ours.container.id,
    },
    { name: RUNC, socketPath: await shimSocket(bundle), containerId: runc.container.id },
  ];
}

/**
 * The socket of the shim that serves a bundle. Source: containerd core/runtime/v2, which keeps what
 * the shim said at its start in bootstrap.json.
 */
async function shimSocket(bundle: string): Promise<string> {
  const text = await Deno.readTextFile(`${bundle}/bootstrap.json`);
  const path = /"address":\s*"unix:\/\/([^"]+)"/.exec(text)?.[1];
  if (path === undefined) throw new Error(`cannot find the shim's socket in ${bundle}: ${text}`);
  return path;
}

/** One run of the client. */
async function runClient({ socketPath, containerId }: Target, load: Load): Promise<RpcReport> {
  const { stdout } = await run([
    Deno.execPath(),
    "run",
    "-A",
    `--config=${REPOSITORY}/deno.json`,
    `${REPOSITORY}/bench/support/rpc_client.ts`,
    socketPath,
    containerId,
    `${load.inFlight}`,
    `${load.calls}`,
  ], { timeoutMs: CLIENT_TIMEOUT_MS });
  const report: RpcReport = JSON.parse(stdout);
  return report;
}

/** The time of a call, over all runs, and the calls of each run in a second. */
function measured(load: Load, samples: ReadonlyMap<string, readonly RpcReport[]>): Measurement[] {
  const series = (values: (reports: readonly RpcReport[]) => number[]) =>
    new Map([...samples].map(([name, reports]) => [name, values(reports)]));
  const name = `Task.State, ${load.inFlight} in flight`;
  return [
    {
      name,
      unit: "ms",
      peer: RUNC,
      goals: load.goals,
      series: series((reports) => reports.flatMap(({ latenciesMs }) => latenciesMs)),
    },
    {
      name: `${name}: rate`,
      unit: "calls/s",
      peer: RUNC,
      series: series((reports) =>
        reports.map(({ latenciesMs, elapsedMs }) => latenciesMs.length / elapsedMs * 1000)
      ),
    },
  ];
}
