/**
 * The test bed of benchmarks of application kernels: pods of gVisor and of runc with the same image,
 * on the host's network, where nothing but the runtimes differs.
 *
 * @module
 */

import { Bed } from "../../tests/support/bed.ts";
import { run } from "../../tests/support/command.ts";
import type { ContainerOptions } from "../../tests/support/cri.ts";
import { busyboxImage } from "../../tests/support/oci_image.ts";
import { REPOSITORY } from "../../tests/support/permissions.ts";
import { sandboxerProgram } from "../../tests/support/sandboxer.ts";
import type { TarEntry } from "../../tests/support/tar.ts";
import type { BenchContext } from "../benchmark.ts";
import type { Rounds } from "../interleave.ts";
import { OURS } from "../result.ts";
import { type PodContender, RUNC } from "./bench_bed.ts";

/** The name of runsc without us in the results. */
export const PLAIN_RUNSC = "plain runsc";

/** The image of all containers: busybox and `calls`, which makes system calls. */
export const QUARK_IMAGE = "quasaur.test/bench-quark:1";

/** A container that says that it runs and then sleeps. */
export const QUARK_SLEEPER: ContainerOptions = {
  image: QUARK_IMAGE,
  args: ["-c", "echo sleeping; exec sleep 3600"],
};

/** Our pods of gVisor. */
export const gvisorContender: PodContender = {
  name: OURS,
  handler: "quasaur-gvisor",
  sandboxer: "quark",
  container: QUARK_SLEEPER,
};

/** The runtime that most nodes have, with the same image. */
export const quarkRuncPeer: PodContender = {
  name: RUNC,
  handler: "runc",
  container: QUARK_SLEEPER,
};

/**
 * Rounds of pods that take parts of a second: some warm up, but none where a single one is asked for.
 *
 * @param context What the benchmark was given.
 * @param rounds How many, where the caller leaves that open, and how long at most in milliseconds.
 */
export function quarkRounds(
  { runs }: BenchContext,
  rounds: Pick<Rounds, "count" | "budgetMs">,
): Rounds {
  return { ...rounds, warmUps: runs === 1 ? 0 : 2 };
}

/** What a bed has. */
export interface QuarkBedOptions {
  /** Files of the image beside busybox and `calls`. */
  readonly files?: readonly TarEntry[];
  /** More flags of the Deno that runs the sandboxer. */
  readonly denoFlags?: readonly string[];
}

/**
 * Starts a bed with a quark sandboxer, in which pods of runc can run too.
 *
 * @param options What it has.
 */
export async function startQuarkBed(options: QuarkBedOptions = {}): Promise<Bed> {
  const { files = [], denoFlags = [] } = options;
  const program = sandboxerProgram("quark");
  const calls: TarEntry = { kind: "file", path: "calls", data: await buildCalls(), mode: 0o755 };
  const bed = await Bed.start({
    kinds: [{ ...program, denoFlags: [...program.denoFlags ?? [], ...denoFlags] }],
    runc: true,
    logLevel: "info",
    runInMemory: true,
  });
  try {
    const image = await busyboxImage(QUARK_IMAGE, { files: [calls, ...files] });
    await bed.containerd.importImage(image);
    return bed;
  } catch (error) {
    await bed[Symbol.asyncDispose]();
    throw error;
  }
}

/** Builds the program that makes system calls. */
async function buildCalls(): Promise<Uint8Array<ArrayBuffer>> {
  const directory = await Deno.makeTempDir({ prefix: "quasaur-calls-" });
  try {
    const program = `${directory}/calls`;
    const source = `${REPOSITORY}/bench/support/calls.c`;
    const flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-O2", "-static"];
    await run(["cc", ...flags, "-o", program, source]);
    return await Deno.readFile(program);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
