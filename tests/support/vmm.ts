/**
 * What tests of microVMs look at: the VMMs of a bed, what is left of pods, and whether a pod works.
 *
 * @module
 */

import assert from "node:assert/strict";
import { PodSandboxState } from "../../proto/gen/runtime/v1/api_pb.ts";
import { vmmTarget } from "../blackbox/vmm_target.ts";
import type { Bed } from "./bed.ts";
import { cgroupsWith } from "./cgroups.ts";
import type { Container, Cri, Pod, PodOptions } from "./cri.ts";
import { leaks, type Snapshot, snapshot } from "./leaks.ts";
import { processesNaming } from "./left_processes.ts";
import { onceConnected } from "./once_connected.ts";
import { waitFor } from "./wait.ts";

const { handler, image } = vmmTarget;

/** How long a pod may take to become NOTREADY, in milliseconds: silence is bounded by half a minute. */
const NOT_READY_MS = 60_000;

/** A connection to a bed's CRI whose pods have a network of their own. */
export function vmmCri(bed: Bed): Cri {
  const cri = bed.cri();
  cri.network = "pod";
  return cri;
}

/**
 * Runs a pod that is a microVM.
 *
 * @param cri The connection.
 * @param options What it is like.
 */
export async function runVm(cri: Cri, options: Partial<PodOptions> = {}): Promise<Pod> {
  return await onceConnected(() => cri.runPod({ handler, ...options }));
}

/** The process id of a pod's VMM, as containerd tells it. */
export async function vmmOf(pod: Pod): Promise<number> {
  const { pid } = JSON.parse((await pod.info())["info"] ?? "{}");
  assert.ok(Number.isInteger(pid) && pid > 1, `process id ${pid}`);
  assert.match(await Deno.readTextFile(`/proc/${pid}/comm`), /^qemu/);
  return pid;
}

/** The command lines of all VMMs of a bed, those of its templates and of its pool included. */
export async function vmmsOf(bed: Bed): Promise<readonly string[]> {
  const found = await processesNaming(bed.directory);
  return found.map(({ command }) => command).filter((command) => /^\S*qemu/.test(command));
}

/**
 * Starts a container that prints a line and sleeps.
 *
 * @param pod Its pod.
 * @param name Its name, unique in the pod.
 */
export async function startSleep(pod: Pod, name = "sleep"): Promise<Container> {
  const container = await pod.startContainer({ name, image, command: [vmmTarget.path("sleep")] });
  await container.printed("sleeping");
  return container;
}

/** Expects a container to run and to take an exec. */
export async function expectAlive(container: Container): Promise<void> {
  assert.equal(await container.state(), "RUNNING");
  const { exitCode, stdout } = await container.exec([vmmTarget.path("hello")]);
  assert.deepEqual([exitCode, stdout], [0, `${vmmTarget.greeting}\n`]);
}

/**
 * Runs a short container in a fresh pod and expects it to work.
 *
 * @param cri The connection.
 * @param options What the pod is like.
 */
export async function expectHello(cri: Cri, options: Partial<PodOptions> = {}): Promise<void> {
  await using pod = await runVm(cri, options);
  const finished = await pod.runContainer({ image, command: [vmmTarget.path("hello")] });
  assert.deepEqual(finished.stdout, [vmmTarget.greeting]);
}

/** Waits until a pod is NOTREADY. */
export async function expectNotReady(pod: Pod): Promise<void> {
  await waitFor(`pod "${pod.id}" to be NOTREADY`, async () => {
    return (await pod.status()).state === PodSandboxState.SANDBOX_NOTREADY;
  }, { timeoutMs: NOT_READY_MS });
}

/** What there is of the pods of a bed. */
export interface VmmSnapshot {
  /** Mounts and files. */
  readonly things: Snapshot;
  /** VMMs and file servers. */
  readonly processes: readonly string[];
  /** Cgroups of pods; undefined where they do not count. */
  readonly cgroups: readonly string[] | undefined;
}

/**
 * Looks once. Templates do not count: they may come and go at any time.
 *
 * @param bed The bed; the first pod of a bed brings directories that stay.
 */
export async function look(bed: Bed): Promise<VmmSnapshot> {
  const { state, directory } = bed.containerd;
  const things = await snapshot({
    mountsBelow: [directory],
    filesBelow: [
      `${state}/io.containerd.runtime.v2.task`,
      `${state}/io.containerd.grpc.v1.cri`,
      bed.sandboxer("vmm").paths.runDirectory,
    ],
  });
  const all = await processesNaming(directory);
  const processes = all.map(({ command }) => command).filter((text) => /qemu|virtiofsd/.test(text));
  return {
    things,
    processes: processes.filter((text) => !isTemplate(text)),
    // containerd makes one for the pod, in which ours is.
    cgroups: (await cgroupsWith(directory.split("/").at(-1) ?? "")).filter((path) =>
      /\/[0-9a-f]{64}$/.test(path)
    ),
  };
}

/**
 * Whether a command line is that of a machine that a template is made of: it has its memory in the
 * template's directory, to be saved.
 *
 * @param command The command line.
 */
export function isTemplate(command: string): boolean {
  return /mem-path=\S*\/templates\/[^,]*,share=on/.test(command);
}

/**
 * Waits until nothing is there that was not there before.
 *
 * @param bed The bed.
 * @param before What {@link look} had seen.
 */
export async function expectNothingLeft(bed: Bed, before: VmmSnapshot): Promise<void> {
  await waitFor("everything to be gone", async () => {
    const now = await look(bed);
    const found = [
      ...leaks(before.things, now.things).filter((text) => !isOthers(text)),
      ...now.processes.slice(before.processes.length).map((text) => text.slice(0, 200)),
      ...(now.cgroups ?? []).filter((path) => before.cgroups?.includes(path) === false),
    ];
    if (found.length > 0) throw new Error(found.join("\n"));
    return true;
  });
}

/** Templates stay, and so do directories that the first shared tree makes. */
function isOthers(leak: string): boolean {
  return /\/templates\/|\/vmm\/(trees|tree-servers)"/.test(leak);
}
