/**
 * `deno task bench`: measures this project and its peers, in turn, on this machine, and says which of
 * its goals are reached. Everything that it starts is stopped and everything that it makes is removed
 * at its end, also when it is interrupted.
 *
 * @module
 */

import { SandboxError } from "../sandboxers/lifecycle/errors.ts";
import { REPOSITORY } from "../tests/support/permissions.ts";
import type { Benchmark } from "./benchmark.ts";
import { agent } from "./cases/agent.ts";
import { aotStart } from "./cases/aot_start.ts";
import { compute } from "./cases/compute.ts";
import { criStart } from "./cases/cri_start.ts";
import { cycles } from "./cases/cycles.ts";
import { density } from "./cases/density.ts";
import { engineStart } from "./cases/engine_start.ts";
import { isolation } from "./cases/isolation.ts";
import { kill } from "./cases/kill.ts";
import { memory } from "./cases/memory.ts";
import { neighbour } from "./cases/neighbour.ts";
import { operateRelay } from "./cases/operate_relay.ts";
import { operateTelemetry } from "./cases/operate_telemetry.ts";
import { parallel } from "./cases/parallel.ts";
import { quarkCriStart } from "./cases/quark_cri_start.ts";
import { quarkExec } from "./cases/quark_exec.ts";
import { quarkLoops } from "./cases/quark_loops.ts";
import { quarkMemory } from "./cases/quark_memory.ts";
import { quarkParallel } from "./cases/quark_parallel.ts";
import { rpc } from "./cases/rpc.ts";
import { vmmCriStart } from "./cases/vmm_cri_start.ts";
import { vmmFiles } from "./cases/vmm_files.ts";
import { vmmMemoryUse } from "./cases/vmm_memory.ts";
import { vmmParallel } from "./cases/vmm_parallel.ts";
import { vmmStart } from "./cases/vmm_start.ts";
import { vmmStdio } from "./cases/vmm_stdio.ts";
import { describeHost } from "./host.ts";
import { interruption } from "./interruption.ts";
import { type BenchmarkName, type BenchOptions, HELP, parseOptions } from "./options.ts";
import { Progress } from "./progress.ts";
import { report } from "./report.ts";
import { type GoalTable, type Result, resultOf } from "./result.ts";

/** A benchmark, and the table that its goals are in. */
interface Entry {
  readonly measure: Benchmark;
  readonly table: GoalTable;
}

/** The benchmarks by name. */
const ENTRIES: Readonly<Record<BenchmarkName, Entry>> = {
  "engine-start": { measure: engineStart, table: "base" },
  "cri-start": { measure: criStart, table: "base" },
  parallel: { measure: parallel, table: "base" },
  rpc: { measure: rpc, table: "base" },
  memory: { measure: memory, table: "base" },
  "aot-start": { measure: aotStart, table: "wasm" },
  compute: { measure: compute, table: "wasm" },
  kill: { measure: kill, table: "wasm" },
  cycles: { measure: cycles, table: "wasm" },
  neighbour: { measure: neighbour, table: "wasm" },
  isolation: { measure: isolation, table: "wasm" },
  density: { measure: density, table: "wasm" },
  "vmm-start": { measure: vmmStart, table: "vmm" },
  "vmm-cri-start": { measure: vmmCriStart, table: "vmm" },
  "vmm-parallel": { measure: vmmParallel, table: "vmm" },
  "vmm-memory": { measure: vmmMemoryUse, table: "vmm" },
  "vmm-stdio": { measure: vmmStdio, table: "vmm" },
  "vmm-files": { measure: vmmFiles, table: "vmm" },
  agent: { measure: agent, table: "vmm" },
  "quark-cri-start": { measure: quarkCriStart, table: "quark" },
  "quark-exec": { measure: quarkExec, table: "quark" },
  "quark-parallel": { measure: quarkParallel, table: "quark" },
  "quark-memory": { measure: quarkMemory, table: "quark" },
  "quark-loops": { measure: quarkLoops, table: "quark" },
  "operate-telemetry": { measure: operateTelemetry, table: "base" },
  "operate-relay": { measure: operateRelay, table: "base" },
};

/** The exit status after Ctrl-C, as shells report it. */
const INTERRUPTED = 130;

/** What the benchmarks came to. */
interface Outcome {
  readonly results: readonly Result[];
  /** One sentence for each benchmark that failed. */
  readonly failures: readonly string[];
}

/** Brings the machine what the benchmarks need. */
async function setUp(): Promise<void> {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", `${REPOSITORY}/scripts/setup.ts`, "--for", "bench"],
    cwd: REPOSITORY,
    stdin: "null",
  });
  const { success } = await command.spawn().status;
  if (!success) {
    throw new SandboxError("FailedPrecondition", "cannot run benchmarks: set-up failed");
  }
}

/** Runs the benchmarks; one that fails does not keep the others from running. */
async function runBenchmarks(options: BenchOptions, signal: AbortSignal): Promise<Outcome> {
  const { runs } = options;
  const results: Result[] = [];
  const failures: string[] = [];
  using progress = new Progress();
  for (const name of options.only) {
    progress.stage(name);
    try {
      const context = { signal, progress, ...(runs === undefined ? {} : { runs }) };
      const { measure, table } = ENTRIES[name];
      const measurements = await measure(context);
      results.push(...measurements.map((one) => resultOf(one, table)));
    } catch (error) {
      signal.throwIfAborted();
      failures.push(`cannot measure ${name}: ${SandboxError.from(error).message}`);
    }
  }
  return { results, failures };
}

/** Does what the command line says; answers the exit status. */
async function main(args: readonly string[]): Promise<number> {
  const options = parseOptions(args);
  if (options === undefined) {
    print(Deno.stdout, HELP);
    return 0;
  }
  await setUp();
  using interrupted = interruption();
  const host = await describeHost();
  const { results, failures } = await runBenchmarks(options, interrupted.signal);
  print(Deno.stdout, await report(results, host, options));
  for (const failure of failures) print(Deno.stderr, `bench: ${failure}`);
  return failures.length === 0 ? 0 : 1;
}

/** Prints a text and ends the line. */
function print(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  to.writeSync(new TextEncoder().encode(`${text}\n`));
}

if (import.meta.main) {
  try {
    Deno.exitCode = await main(Deno.args);
  } catch (error) {
    const { code, message } = SandboxError.from(error);
    print(Deno.stderr, `bench: ${message}`);
    Deno.exitCode = code === "Cancelled" ? INTERRUPTED : 1;
  }
  // What a failed benchmark left open in this process must not keep it.
  Deno.exit();
}
