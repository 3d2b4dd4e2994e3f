/**
 * What telemetry costs: the start of a pod with one container through a sandboxer without it, one
 * with metrics and one with metrics and traces, in turn. All three are the wasm sandboxer and run at
 * the same time; the latter two are scraped meanwhile, and the last one's traces are received.
 *
 * @module
 */

import { exporterEnv, OtlpReceiver } from "../../tests/support/otlp_receiver.ts";
import type { Bed } from "../../tests/support/bed.ts";
import type { Cri } from "../../tests/support/cri.ts";
import { type SandboxerProgram, sandboxerProgram } from "../../tests/support/sandboxer.ts";
import config from "../../deno.json" with { type: "json" };
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { seriesOf } from "../interleave.ts";
import { type Goal, type Measurement, OURS } from "../result.ts";
import { type PodContender, startBenchBed, wasmContender } from "../support/bench_bed.ts";
import { loneProcessMemory } from "../support/process_memory.ts";

/** Names in the results. */
const OFF = "off";
const METRICS = "metrics";

/** How often metrics are read, in milliseconds: as Prometheus does by default, and a little more. */
const SCRAPE_MS = 10_000;

/** How long sandboxers are idle before their memory is read, in milliseconds. */
const IDLE_MS = 2_000;

const GOALS: readonly Goal[] = [{ kind: "ratio", peer: OFF, atMost: 1.03, written: "1.03" }];

/** The wasm sandboxer under another name, so that several of it serve one containerd. */
function named(
  kind: string,
  flags: readonly string[],
  env: Readonly<Record<string, string>> = {},
): SandboxerProgram {
  const program = sandboxerProgram("wasm");
  const net = config.permissions.wasm.net.map((path) =>
    path.replace("/quasaur/wasm", `/quasaur/${kind}`)
  );
  return {
    ...program,
    kind,
    permissions: { ...program.permissions, net },
    flags: ["--engine-mode=interpreter", ...flags],
    env: { ...program.env, ...env },
  };
}

/** Who is compared. */
function contendersFor(endpoint: string): PodContender[] {
  const contender = (name: string, sandboxer: SandboxerProgram): PodContender => ({
    name,
    handler: `quasaur-${sandboxer.kind}`,
    sandboxer,
    container: wasmContender.container,
  });
  return [
    contender(OFF, named("plain", ["--metrics=none"])),
    contender(METRICS, named("counted", [])),
    contender(OURS, named("traced", [], exporterEnv(endpoint))),
  ];
}

/**
 * Measures the cost of telemetry.
 *
 * @param context See {@link BenchContext}.
 */
export async function operateTelemetry(context: BenchContext): Promise<Measurement[]> {
  await using receiver = new OtlpReceiver();
  const contenders = contendersFor(receiver.endpoint);
  await using bed = await startBenchBed(contenders);
  using cri = bed.cri();
  const kinds = ["counted", "traced"];
  using _scrapes = scrapeNowAndThen(kinds.map((kind) => metricsSocket(bed, kind)));
  const rounds = { count: 150, warmUps: 5, budgetMs: 90_000 };
  const samples = await takeSamples(
    context,
    contenders.map((one) => ({ name: one.name, sample: () => startOnce(cri, one) })),
    rounds,
  );
  return [
    {
      name: "CRI start with metrics and traces",
      unit: "ms",
      peer: OFF,
      goals: GOALS,
      series: seriesOf(samples, (ms) => ms),
    },
    {
      name: "memory with metrics and traces: PSS",
      unit: "MiB",
      peer: OFF,
      series: await memoryOf(bed, contenders),
    },
  ];
}

/** Starts a pod with a container, and removes it again. Only the start is timed. */
async function startOnce(cri: Cri, { handler, container }: PodContender): Promise<number> {
  const prepared = await cri.preparePod({ handler });
  const begin = performance.now();
  await using pod = await cri.runPrepared(prepared);
  await pod.startContainer(container);
  return performance.now() - begin;
}

function metricsSocket(bed: Bed, kind: string): string {
  return `${bed.sandboxer(kind).paths.stateDirectory}-metrics.sock`;
}

/** Reads metrics at some sockets, as a scraper would. */
function scrapeNowAndThen(paths: readonly string[]): Disposable {
  const clients = paths.map((path) =>
    Deno.createHttpClient({ proxy: { transport: "unix", path } })
  );
  const scrape = async () => {
    for (const client of clients) {
      const response = await fetch("http://localhost/metrics", { client });
      await response.text();
    }
  };
  const timer = setInterval(() => void scrape().catch(() => undefined), SCRAPE_MS);
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      for (const client of clients) client.close();
    },
  };
}

async function memoryOf(
  bed: Bed,
  contenders: readonly PodContender[],
): Promise<Map<string, number[]>> {
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const series = new Map<string, number[]>();
  for (const { name, handler } of contenders) {
    const { process } = bed.sandboxer(handler.replace("quasaur-", ""));
    series.set(name, [(await loneProcessMemory(process.pid)).pssMiB]);
  }
  return series;
}
