/**
 * How fast guests compute: three loops, compiled in our engine, where they can be killed at any time,
 * against the same source compiled for this machine, V8, and the engine's own command line, compiled
 * and interpreted. Each program times itself, so starting it does not count.
 *
 * @module
 */

import { REPOSITORY } from "../../tests/support/permissions.ts";
import { run } from "../../tests/support/command.ts";
import { type BenchContext, takeSamples } from "../benchmark.ts";
import { EXTRAPOLATED, type Goal, type Measurement, OURS } from "../result.ts";
import { GuestHost } from "../support/guest_host.ts";
import { guestPath } from "../support/guests.ts";
import {
  buildNativePrograms,
  type ComputeGuest,
  type NativePrograms,
} from "../support/native_programs.ts";

const NATIVE = "clang -O2";

const GOALS: readonly Goal[] = [{ kind: "ratio", peer: NATIVE, atMost: 1.5, written: "1.5" }];

/** A program, and how much it does. */
interface Work {
  readonly guest: ComputeGuest;
  /** The arguments for a number of steps. */
  readonly args: (steps: number) => readonly string[];
  /** How many steps are measured. */
  readonly steps: number;
}

const WORK: readonly Work[] = [
  { guest: "fannkuch", args: (steps) => ["10", `${steps}`], steps: 3_628_800 },
  { guest: "nbody", args: (steps) => [`${steps}`], steps: 3_000_000 },
  { guest: "sha256", args: (steps) => [`${steps}`], steps: 300_000 },
];

/** An interpreter gets as much less to do; its time is multiplied by that, and its name says so. */
const INTERPRETER_PART = 200;

/** How long one program may take, in milliseconds. */
const TIMEOUT_MS = 120_000;

/**
 * Measures computing.
 *
 * @param context See {@link BenchContext}.
 */
export async function compute(context: BenchContext): Promise<Measurement[]> {
  const guests = WORK.map(({ guest }) => guest);
  const { signal } = context;
  await using programs = await buildNativePrograms(guests);
  await using host = await GuestHost.open({ guests, engine: "compiled", signal });
  const measurements: Measurement[] = [];
  for (const work of WORK) {
    const contenders = Object.entries(runners(host, programs, work)).map(([name, sample]) => ({
      name,
      sample,
    }));
    const rounds = { count: 7, warmUps: 1, budgetMs: 14_000 };
    measurements.push({
      name: `compute: ${work.guest}`,
      unit: "ms",
      peer: NATIVE,
      series: await takeSamples(context, contenders, rounds),
      goals: GOALS,
    });
  }
  return measurements;
}

/** How each contender runs a program; each answers the milliseconds that it computed. */
function runners(
  host: GuestHost,
  programs: NativePrograms,
  { guest, args, steps }: Work,
): Readonly<Record<string, () => Promise<number>>> {
  const all = args(steps);
  const part = args(Math.ceil(steps / INTERPRETER_PART));
  const v8 = `${REPOSITORY}/bench/support/v8_wasi.ts`;
  const path = guestPath(guest);
  return {
    [OURS]: async () => elapsedMs(await host.output({ guest, args: all }, TIMEOUT_MS)),
    [NATIVE]: () => runProgram([programs.native(guest), ...all]),
    "V8": () => runProgram([Deno.execPath(), "run", "-A", v8, path, ...all]),
    "wasmedge compiled": () =>
      runProgram(["wasmedge", "--run-mode", "aot", programs.compiled(guest), ...all]),
    [`wasmedge interpreted${EXTRAPOLATED}`]: async () =>
      INTERPRETER_PART * await runProgram(["wasmedge", path, ...part]),
  };
}

async function runProgram(command: readonly [string, ...string[]]): Promise<number> {
  return elapsedMs((await run(command, { timeoutMs: TIMEOUT_MS })).stdout);
}

/** What a program says of its own time. */
function elapsedMs(output: string): number {
  const [, elapsedNs] = /^result \S+ elapsed (\d+) ns$/m.exec(output) ?? [];
  if (elapsedNs === undefined) throw new Error(`a program did not tell its time: "${output}"`);
  return Number(elapsedNs) / 1e6;
}
