/**
 * What tests of gVisor's pods look at: the processes that runsc runs for a bed, what is left of pods,
 * and whether a pod works.
 *
 * @module
 */

import assert from "node:assert/strict";
import { PodSandboxState } from "../../proto/gen/runtime/v1/api_pb.ts";
import { gvisorTarget } from "../blackbox/gvisor_target.ts";
import type { Bed } from "./bed.ts";
import { cgroupsWith } from "./cgroups.ts";
import type { Container, Cri, Pod, PodOptions } from "./cri.ts";
import { leaks, type Snapshot, snapshot } from "./leaks.ts";
import { processesNaming } from "./left_processes.ts";
import { runscProcesses } from "./runsc_processes.ts";
import { onceConnected } from "./once_connected.ts";
import { waitFor } from "./wait.ts";

const { handler, image } = gvisorTarget;

/** Processes that stay beside the sandboxer: its launcher's relay of task calls and its like. */
const HELPERS = /quasaur-host-launcher|containerd|deno/;

/**
 * Runs a pod of gVisor.
 *
 * @param cri The connection.
 * @param options What it is like.
 */
export async function runGvisor(cri: Cri, options: Partial<PodOptions> = {}): Promise<Pod> {
  return await onceConnected(() => cri.runPod({ handler, ...options }));
}

/** The process id of a pod's sandbox, as containerd tells it. */
export async function sandboxOf(pod: Pod): Promise<number> {
  const { pid } = JSON.parse((await pod.info())["info"] ?? "{}");
  assert.ok(Number.isInteger(pid) && pid > 1, `process id ${pid}`);
  assert.match(await Deno.readTextFile(`/proc/${pid}/cmdline`), /^runsc-sandbox/);
  return pid;
}

/**
 * Starts a container that prints a line and sleeps.
 *
 * @param pod Its pod.
 * @param name Its name, unique in the pod.
 */
export async function startSleep(pod: Pod, name = "sleep"): Promise<Container> {
  const command = [gvisorTarget.path("sleep")];
  const container = await pod.startContainer({ name, image, command });
  await container.printed("sleeping");
  return container;
}

/** Expects a container to run and to take an exec. */
export async function expectAlive(container: Container): Promise<void> {
  assert.equal(await container.state(), "RUNNING");
  const { exitCode, stdout } = await container.exec([gvisorTarget.path("hello")]);
  assert.deepEqual([exitCode, stdout], [0, `${gvisorTarget.greeting}\n`]);
}

/**
 * Runs a short container in a fresh pod and expects it to work.
 *
 * @param cri The connection.
 * @param options What the pod is like.
 */
export async function expectHello(cri: Cri, options: Partial<PodOptions> = {}): Promise<void> {
  await using pod = await runGvisor(cri, options);
  const finished = await pod.runContainer({ image, command: [gvisorTarget.path("hello")] });
  assert.deepEqual(finished.stdout, [gvisorTarget.greeting]);
}

/** Waits until a pod is NOTREADY. */
export async function expectNotReady(pod: Pod): Promise<void> {
  await waitFor(`pod "${pod.id}" to be NOTREADY`, async () => {
    return (await pod.status()).state === PodSandboxState.SANDBOX_NOTREADY;
  });
}

/** What there is of the pods of a bed. */
export interface GvisorSnapshot {
  /** Mounts and files, runsc's notes of its containers among them. */
  readonly things: Snapshot;
  /** Everything that runs beside the sandboxer and its helpers. */
  readonly processes: number;
  /** Cgroups of pods. */
  readonly cgroups: readonly string[];
}

/**
 * Looks once.
 *
 * @param bed The bed; the first pod of a bed brings directories that stay.
 */
export async function look(bed: Bed): Promise<GvisorSnapshot> {
  const { state, directory } = bed.containerd;
  const things = await snapshot({
    mountsBelow: [directory],
    filesBelow: [
      `${state}/io.containerd.runtime.v2.task`,
      `${state}/io.containerd.grpc.v1.cri`,
      bed.sandboxer("quark").paths.runDirectory,
    ],
  });
  const { sandboxes, gofers } = await runscProcesses(directory);
  const others = (await processesNaming(directory)).filter(({ command }) => {
    return !HELPERS.test(command) && !/^runsc-(sandbox|gofer) /.test(command);
  });
  return {
    things,
    // A sandbox keeps stubs for later containers.
    processes: sandboxes.length + gofers.length + others.length,
    cgroups: await cgroupsWith(directory.split("/").at(-1) ?? ""),
  };
}

/**
 * Waits until nothing is there that was not there before.
 *
 * @param bed The bed.
 * @param before What {@link look} had seen.
 */
export async function expectNothingLeft(bed: Bed, before: GvisorSnapshot): Promise<void> {
  await waitFor("everything to be gone", async () => {
    const now = await look(bed);
    const found = [
      ...leaks(before.things, now.things).filter((text) => !isOthers(text)),
      ...now.processes > before.processes ? [`${now.processes} processes`] : [],
      ...now.cgroups.filter((path) => !isKubelets(path) && !before.cgroups.includes(path)),
    ];
    if (found.length > 0) throw new Error(found.join("\n"));
    return true;
  });
}

/** Sockets and the directory of logs are the sandboxer's. */
function isOthers(leak: string): boolean {
  return /\/(quark(-task)?\.sock|gvisor\/logs)"/.test(leak);
}

/** The cgroup of a pod that the test itself has made, in the place of kubelet. */
function isKubelets(path: string): boolean {
  return /\/pod-[0-9a-f]{8}$/.test(path);
}
