/**
 * Takes the containers of a guest over that an earlier sandboxer had made: the agent says which there
 * are, the store what was asked for. Output that was not written yet, and exits that nobody heard of,
 * come afterwards.
 *
 * @module
 */

import type { GuestStdio, Requests } from "../../guest/protocol/messages.ts";
import type {
  AdoptableContainer,
  AdoptableSandbox,
  AdoptedContainer,
  ProcessHandle,
} from "../lifecycle/driver.ts";
import type { StdioSpec } from "../lifecycle/spec.ts";
import { newProcess, VmContainer } from "./container.ts";
import type { PodContext, VmPod } from "./pod.ts";

const SIGKILL = 9;

type Inventory = Requests["inventory"]["result"]["containers"][number];

/**
 * Takes containers over. Those that the guest has and nobody knows are deleted there; those that the
 * guest has not are released on the host.
 *
 * @param pod Their pod.
 * @param context What pods work with.
 * @param sandbox What the store says.
 * @throws {SandboxError} Where the agent does not answer.
 */
export async function adoptContainers(
  pod: VmPod,
  context: PodContext,
  sandbox: AdoptableSandbox,
): Promise<Map<string, AdoptedContainer>> {
  const { containers, lastStream } = await pod.agent.request("inventory", {});
  pod.guest.agent.useStreamsAfter(lastStream);
  const known = new Map(sandbox.containers.map((container) => [container.spec.id, container]));
  const adopted = new Map<string, AdoptedContainer>();
  for (const entry of containers) {
    const container = known.get(entry.container);
    known.delete(entry.container);
    if (container === undefined) {
      await pod.agent.request("deleteContainer", { container: entry.container });
    } else {
      adopted.set(entry.container, await adoptContainer(pod, context, container, entry));
    }
  }
  for (const { record } of known.values()) await context.files.releaseLeft(record);
  return adopted;
}

async function adoptContainer(
  pod: VmPod,
  context: PodContext,
  { spec, record, execs = [] }: AdoptableContainer,
  { state, processes }: Inventory,
): Promise<AdoptedContainer> {
  const files = await context.files.adopt(pod.volumes, pod.guest, spec, record);
  const adoptProcess = (exec: string, stdio: StdioSpec, guest: GuestStdio) => {
    const label = exec === "" ? `container "${spec.id}"` : `exec "${exec}"`;
    const streams = pod.streams.adopt(stdio, guest, label);
    return newProcess(pod, { container: spec.id, exec }, { streams });
  };
  const init = processes.find(({ exec }) => exec === "");
  const initProcess = adoptProcess("", spec.stdio, init?.stdio ?? {});
  const container = new VmContainer(pod, spec, files, initProcess);
  pod.addContainer(spec.id, container);
  const handles = new Map<string, ProcessHandle>();
  if (state !== "created" && init !== undefined) handles.set("", initProcess);
  for (const { exec, stdio } of processes) {
    if (exec === "") continue;
    const execSpec = execs.find(({ id }) => id === exec);
    if (execSpec !== undefined) handles.set(exec, adoptProcess(exec, execSpec.stdio, stdio));
    // Its caller was never told that it runs.
    else await pod.agent.request("kill", { container: spec.id, exec, signal: SIGKILL });
  }
  return { handle: container, paused: state === "paused", processes: handles };
}
