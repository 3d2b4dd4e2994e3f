/**
 * Takes the containers of a sandbox over that an earlier sandboxer had made: Quark says which there
 * are, the store what was asked for. Exits that nobody heard of come afterwards.
 *
 * @module
 */

import { Task } from "../../../proto/gen/containerd/task/v2/shim_pb.ts";
import type { Status } from "../../../proto/gen/containerd/v1/types/task_pb.ts";
import type {
  AdoptableContainer,
  AdoptableSandbox,
  AdoptedContainer,
} from "../../lifecycle/driver.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { isObject } from "../../oci/json.ts";
import { QuarkContainer } from "./container.ts";
import { removeContainerDirectory } from "./container_files.ts";
import type { QuarkPod } from "./pod.ts";
import { BoundStdio } from "./stdio.ts";

const SIGKILL = 9;
/** How the directories of containers are called. */
const CONTAINER = /^[0-9a-f]{64}$/;

/**
 * Takes containers over. Those that nobody knows are deleted in Quark; those that Quark does not know
 * are released on the host.
 *
 * @param pod Their pod.
 * @param sandbox What the store says.
 * @throws {SandboxError} Where Quark does not answer.
 */
export async function adoptContainers(
  pod: QuarkPod,
  { containers }: AdoptableSandbox,
): Promise<Map<string, AdoptedContainer>> {
  const adopted = new Map<string, AdoptedContainer>();
  const known = new Set<string>();
  for (const container of containers) {
    const { id } = container.spec;
    const name = nameOf(container);
    // It was still being made.
    if (name === undefined) continue;
    known.add(name);
    const taken = await adoptContainer(pod, name, container);
    if (taken !== undefined) adopted.set(id, taken);
  }
  for (const name of await strays(pod, known)) await endStray(pod, name);
  return adopted;
}

/** What Quark calls a container; undefined where nothing was stored of it. */
function nameOf({ record }: AdoptableContainer): string | undefined {
  if (!isObject(record)) return undefined;
  const { name } = record;
  return typeof name === "string" && CONTAINER.test(name) ? name : undefined;
}

async function adoptContainer(
  pod: QuarkPod,
  name: string,
  { spec, execs = [] }: AdoptableContainer,
): Promise<AdoptedContainer | undefined> {
  const { options } = pod;
  const directory = pod.containerDirectory(name);
  const status = await statusOf(pod, name);
  if (status === undefined) {
    await removeContainerDirectory(options.mounter, directory);
    return undefined;
  }
  const stdio = BoundStdio.adopt(options, { directory, exec: "" }, spec.stdio);
  const parts = { spec, name, directory, stdio };
  const taken = await QuarkContainer.adopt(pod, parts, status, execs);
  pod.add(taken.handle);
  return taken;
}

/** What Quark says of a container; undefined where it has none of that name. */
async function statusOf({ tasks }: QuarkPod, id: string): Promise<Status | undefined> {
  try {
    return (await tasks.call(Task.method.state, { id })).status;
  } catch (error) {
    const { code } = SandboxError.from(error);
    if (code === "NotFound") return undefined;
    throw error;
  }
}

/** Containers in the bundle that were being made when the earlier sandboxer ended. */
async function strays(pod: QuarkPod, known: ReadonlySet<string>): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(pod.places.bundle)) {
    // Quark itself makes a directory with the name of the sandbox.
    if (!isDirectory || !CONTAINER.test(name) || name === pod.name || known.has(name)) continue;
    found.push(name);
  }
  return found;
}

async function endStray(pod: QuarkPod, name: string): Promise<void> {
  const { tasks, options } = pod;
  options.log.info("ending a container that nobody knows", { container: name });
  await tasks.call(Task.method.kill, { id: name, signal: SIGKILL, all: true }).catch(() => {});
  await tasks.call(Task.method.delete, { id: name }).catch(() => {});
  await removeContainerDirectory(options.mounter, pod.containerDirectory(name));
}
