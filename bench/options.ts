/**
 * The command line of the benchmarks.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { SandboxError } from "../sandboxers/lifecycle/errors.ts";

/** The names of all benchmarks by kind of sandbox, in the order in which they run. */
export const BENCHMARKS = {
  wasm: [
    "engine-start",
    "cri-start",
    "parallel",
    "rpc",
    "memory",
    "aot-start",
    "compute",
    "kill",
    "cycles",
    "neighbour",
    "isolation",
    "density",
  ],
  vmm: [
    "vmm-start",
    "vmm-cri-start",
    "vmm-parallel",
    "vmm-memory",
    "vmm-stdio",
    "vmm-files",
    "agent",
  ],
  quark: [
    "quark-cri-start",
    "quark-exec",
    "quark-parallel",
    "quark-memory",
    "quark-loops",
  ],
  operate: ["operate-telemetry", "operate-relay"],
} as const;

/** A kind of sandbox that can be measured. */
export type BenchKind = keyof typeof BENCHMARKS;

/** The help text. */
export const HELP: string = `Measures Quasaur and its peers, in turn, on this machine.

Usage: deno task bench [wasm|vmm|quark|operate] [--only NAME]... [--runs N] [--json FILE] [--svg FILE]

  wasm         WebAssembly pods (the default)
  vmm          microVM pods
  quark        pods of application kernels
  operate      what operating costs: metrics and traces
  --only NAME  this benchmark of the kind only (may be repeated):
               wasm: ${BENCHMARKS.wasm.slice(0, 6).join(", ")},
                     ${BENCHMARKS.wasm.slice(6).join(", ")}
               vmm:  ${BENCHMARKS.vmm.join(", ")}
               quark: ${BENCHMARKS.quark.join(", ")}
               operate: ${BENCHMARKS.operate.join(", ")}
  --runs N     measure in N rounds, however long it takes (default: as many as fit into about twelve
               minutes altogether); memory is read in one; cycles and density do N hundredths of all
               that they do otherwise
  --json FILE  write the results and the tables of goals as JSON
  --svg FILE   draw the results as a chart
  -h, --help   print this`;

/** The name of a benchmark. */
export type BenchmarkName = typeof BENCHMARKS[BenchKind][number];

/** What to do. */
export interface BenchOptions {
  /** The benchmarks to run. */
  readonly only: readonly BenchmarkName[];
  /** Rounds of each benchmark; missing for as many as fit the time. */
  readonly runs?: number;
  /** Where the JSON goes. */
  readonly json?: string;
  /** Where the chart goes. */
  readonly svg?: string;
}

/** Most rounds that can be asked for. */
const RUNS_MAX = 10_000;

/**
 * Reads the command line.
 *
 * @param args The arguments without the program.
 * @returns What to do, or undefined where help is wanted.
 * @throws {SandboxError} `InvalidArgument`, naming what was found and what is expected.
 */
export function parseOptions(args: readonly string[]): BenchOptions | undefined {
  const { values, positionals } = parse(args);
  if (values.help) return undefined;
  const [kind = "wasm", ...rest] = positionals;
  if (!isKind(kind)) throw invalid("kind of sandbox", kind, Object.keys(BENCHMARKS).join(", "));
  if (rest[0] !== undefined) throw invalid("argument", rest[0], "nothing after the kind");
  const all: readonly BenchmarkName[] = BENCHMARKS[kind];
  const only = (values.only ?? []).map((name) => {
    const found = all.find((candidate) => candidate === name);
    if (found === undefined) throw invalid("--only", name, `one of ${all.join(", ")}`);
    return found;
  });
  return {
    only: only.length === 0 ? all : all.filter((name) => only.includes(name)),
    ...(values.runs === undefined ? {} : { runs: parseRuns(values.runs) }),
    ...(values.json === undefined ? {} : { json: filePath("--json", values.json) }),
    ...(values.svg === undefined ? {} : { svg: filePath("--svg", values.svg) }),
  };
}

function isKind(name: string): name is BenchKind {
  return Object.hasOwn(BENCHMARKS, name);
}

/** The raw values. */
function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        only: { type: "string", multiple: true },
        runs: { type: "string" },
        json: { type: "string" },
        svg: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    throw SandboxError.from(error, "cannot read the command line", "InvalidArgument");
  }
}

/** A number of rounds. */
function parseRuns(text: string): number {
  const runs = Number(text);
  if (/^\d+$/.test(text) && runs >= 1 && runs <= RUNS_MAX) return runs;
  throw invalid("--runs", text, `a whole number from 1 to ${RUNS_MAX}`);
}

/** A file's path. */
function filePath(flag: string, path: string): string {
  if (path === "") throw invalid(flag, path, "the path of a file");
  return path;
}

/** An error about one value. */
function invalid(what: string, found: string, expected: string): SandboxError {
  return new SandboxError(
    "InvalidArgument",
    `invalid ${what} ${JSON.stringify(found)}: expected ${expected}`,
  );
}
