/**
 * The test bed of the benchmarks: quiet logs, sockets and state in memory as on a real node, and the
 * images that all contenders run. Each runs the same thing, a program that says that it runs and then
 * sleeps.
 *
 * @module
 */

import { Bed } from "../../tests/support/bed.ts";
import type { Container, ContainerOptions, Cri, Pod } from "../../tests/support/cri.ts";
import { busyboxImage, wasmImage } from "../../tests/support/oci_image.ts";
import type { SandboxerProgram } from "../../tests/support/sandboxer.ts";
import { OURS } from "../result.ts";
import { guestPath } from "./guests.ts";
import { noopProgram } from "./noop_program.ts";

/** Someone whose pods are measured. */
export interface PodContender {
  /** The name in the results. */
  readonly name: string;
  /** The runtime handler. */
  readonly handler: string;
  /** The annotations of its pods. */
  readonly annotations?: Record<string, string>;
  /** The sandboxer behind the handler; missing where containerd runs the runtime itself. */
  readonly sandboxer?: string | SandboxerProgram;
  /** What its containers run. */
  readonly container: ContainerOptions;
}

/** The name of the sandboxer that does nothing in the results. */
export const NOOP = "no-op";

/** The name of runc in the results. */
export const RUNC = "runc";

const WASM_IMAGE = "quasaur.test/bench-wasm:1";
const BUSYBOX_IMAGE = "quasaur.test/bench-busybox:1";

/** The guests that the image has beside the one that it starts. */
const OTHERS = ["hello", "spin"] as const;

/** Our own wasm sandboxer. */
export const wasmContender: PodContender = {
  name: OURS,
  handler: "quasaur-wasm",
  sandboxer: "wasm",
  container: { image: WASM_IMAGE },
};

/** Our own wasm sandboxer, with a process for each pod. */
export const wasmProcessContender: PodContender = {
  ...wasmContender,
  name: "ours, a process each",
  annotations: { "quasaur.dev/isolation": "process" },
};

/** The sandboxer that does nothing; it gets the same image and never looks at it. */
export const noopContender: PodContender = {
  name: NOOP,
  handler: "quasaur-noop",
  sandboxer: noopProgram,
  container: { image: WASM_IMAGE },
};

/** The runtime that most nodes have. */
export const runcContender: PodContender = {
  name: RUNC,
  handler: "runc",
  container: { image: BUSYBOX_IMAGE, args: ["-c", "echo sleeping; exec sleep 3600"] },
};

/**
 * Starts a bed.
 *
 * @param contenders Whose pods it shall run.
 */
export async function startBenchBed(contenders: readonly PodContender[]): Promise<Bed> {
  const sandboxers = contenders.map(({ sandboxer }) => sandboxer);
  const kinds = [...new Set(sandboxers.filter((one) => one !== undefined))];
  const runc = contenders.includes(runcContender);
  const bed = await Bed.start({ kinds, runc, logLevel: "info", runInMemory: true });
  try {
    const sleeper = await Deno.readFile(guestPath("sleep"));
    const files = await Promise.all(OTHERS.map(async (name) => ({
      kind: "file" as const,
      path: `${name}.wasm`,
      data: await Deno.readFile(guestPath(name)),
      mode: 0o755,
    })));
    await bed.containerd.importImage(wasmImage(WASM_IMAGE, sleeper, { files }));
    if (runc) await bed.containerd.importImage(await busyboxImage(BUSYBOX_IMAGE));
    return bed;
  } catch (error) {
    await bed[Symbol.asyncDispose]();
    throw error;
  }
}

/** Pods that run, each with a container. */
export interface RunningPods {
  /** Each pod with its container. */
  readonly pods: readonly { readonly pod: Pod; readonly container: Container }[];
  /** From the first call until the last container was started, in milliseconds. */
  readonly startMs: number;
}

/**
 * Runs pods, all at the same time, each with a started container. On failure none is left.
 *
 * @param cri The connection.
 * @param contender Whose.
 * @param count How many.
 */
export async function runPods(
  cri: Cri,
  contender: PodContender,
  count: number,
): Promise<RunningPods> {
  const { container, handler, annotations = {} } = contender;
  const prepared = [];
  for (let index = 0; index < count; index++) {
    prepared.push(await cri.preparePod({ handler, annotations }));
  }
  const begin = performance.now();
  const outcomes = await Promise.allSettled(prepared.map(async (one) => {
    const pod = await cri.runPrepared(one);
    return { pod, container: await pod.startContainer(container) };
  }));
  const startMs = performance.now() - begin;
  const failed = outcomes.find((one) => one.status === "rejected");
  if (failed !== undefined) {
    await cri.removeAllPods();
    throw failed.reason;
  }
  return {
    pods: outcomes.flatMap((one) => one.status === "fulfilled" ? [one.value] : []),
    startMs,
  };
}
