/**
 * Takes over the sandbox of an earlier sandboxer: runsc's files say what there was, the control socket
 * what there still is, the store what was asked for.
 *
 * @module
 */

import type {
  AdoptableContainer,
  AdoptableSandbox,
  AdoptedContainer,
  AdoptedSandbox,
  ProcessHandle,
} from "../../lifecycle/driver.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import type { ExecSpec, Json } from "../../lifecycle/spec.ts";
import type { Log } from "../../log.ts";
import { removeTree } from "../../removal.ts";
import { GvisorContainer } from "./container.ts";
import { unmountContainers } from "./container_files.ts";
import { SentryControl } from "./control.ts";
import type { GvisorOptions } from "./options.ts";
import type { GvisorPod } from "./pod.ts";
import { giveBackAddresses } from "./pod_addresses.ts";
import type { GvisorProcess } from "./process.ts";
import { ProcessStdio } from "./process_stdio.ts";
import {
  controlSocketPath,
  listRecords,
  readRecord,
  removeRecord,
  type RunscRecord,
} from "./runsc_state.ts";

/** How long opening the streams of a container that was not started may take, in milliseconds. */
const OPEN_MS = 20_000;
/** How long the exits of execs that have ended meanwhile are waited for, in milliseconds. */
const EXIT_MS = 1_500;

/** What a pod to take over is known by. */
export interface PodNames {
  /** The name by which runsc knows it. */
  readonly sandbox: string;
  /** Its directory on the host. */
  readonly directory: string;
  /** Its cgroup; empty for none. */
  readonly cgroup: string;
}

/** What taking over works with. */
export interface AdoptionOptions extends GvisorOptions, PodNames {
  /** Makes the pod of a sandbox that lives. */
  podOf(pid: number): GvisorPod;
}

/**
 * Takes a pod over.
 *
 * @returns Undefined where it has ended; then nothing is left of it.
 */
export async function adoptPod(
  options: AdoptionOptions,
  sandbox: AdoptableSandbox,
): Promise<AdoptedSandbox | undefined> {
  const { root, log } = options;
  const record = await readRecordOf(options, options.sandbox);
  const state = record === undefined ? "gone" : await stateOf(options);
  if (record === undefined || state !== "running") {
    await removeSandbox(options, options);
    return undefined;
  }
  const pod = options.podOf(record.sandboxPid);
  try {
    const containers = await adoptContainers(options, pod, sandbox.containers);
    pod.watch();
    await pod.limit();
    return { handle: pod, containers };
  } catch (error) {
    log.error("ending a pod that cannot be taken over", {
      sandbox: sandbox.spec.id,
      root,
      error: SandboxError.from(error),
    });
    await pod.stop(0);
    return undefined;
  }
}

/** What runsc has written down; nothing where nobody can read it. */
async function readRecordOf(
  { root, sandbox, log }: Pick<AdoptionOptions, "root" | "sandbox" | "log">,
  id: string,
): Promise<RunscRecord | undefined> {
  try {
    return await readRecord(root, { id, sandboxId: sandbox });
  } catch (error) {
    if (SandboxError.from(error).code !== "DataLoss") throw error;
    log.error("runsc's notes about a container cannot be read", { container: id, error });
    return undefined;
  }
}

/** Whether the sandbox lives, and its root container was started. */
async function stateOf({ root, sandbox, connect }: AdoptionOptions): Promise<string> {
  const control = new SentryControl(controlSocketPath(root, sandbox), connect);
  try {
    return await control.state(sandbox);
  } catch (error) {
    const { code } = SandboxError.from(error);
    if (code === "Unavailable" || code === "NotFound") return "gone";
    throw error;
  }
}

/**
 * Ends what may run of a sandbox, and removes what is left of it.
 *
 * @param options See {@link GvisorOptions}.
 * @param names Which one.
 */
export async function removeSandbox(
  options: GvisorOptions,
  { sandbox, directory, cgroup }: PodNames,
): Promise<void> {
  const { root, launcher, mounter, log } = options;
  const record = await readRecordOf({ root, sandbox, log }, sandbox);
  if (record !== undefined && await isOurs(options, sandbox)) {
    const identity = await launcher.identify(record.sandboxPid);
    if (identity !== undefined) await launcher.kill(identity);
  }
  for (const container of await listRecords(root)) {
    if (container.sandboxId === sandbox) await removeRecord(root, container);
  }
  await removeRecord(root, { id: sandbox, sandboxId: sandbox });
  if (cgroup !== "") await launcher.removeCgroup(cgroup);
  await giveBackAddresses(launcher, directory);
  await unmountContainers(directory, mounter);
  await removeTree(directory);
}

/** Whether somebody listens at the socket of a sandbox: then its process has not ended. */
async function isOurs({ root, connect }: GvisorOptions, sandbox: string): Promise<boolean> {
  try {
    (await connect(controlSocketPath(root, sandbox))).close();
    return true;
  } catch {
    return false;
  }
}

async function adoptContainers(
  options: AdoptionOptions,
  pod: GvisorPod,
  containers: readonly AdoptableContainer[],
): Promise<Map<string, AdoptedContainer>> {
  const { root, sandbox } = options;
  const known = new Map(containers.map((container) => [container.spec.id, container]));
  const adopted = new Map<string, AdoptedContainer>();
  const strays: string[] = [];
  for (const { id, sandboxId } of await listRecords(root)) {
    if (sandboxId !== sandbox || id === sandbox) continue;
    const container = known.get(id);
    const record = await readRecordOf(options, id);
    if (container === undefined || record === undefined) {
      strays.push(id);
    } else {
      const taken = await adoptOrLeave(pod, container, options.log);
      if (taken === undefined) strays.push(id);
      else adopted.set(id, taken);
    }
  }
  // What nobody knows of, or nobody can use. Last, when it is known which containers are paused.
  for (const id of strays) {
    await pod.whileRunning(() => pod.destroy(id));
    await pod.filesOf(id).remove();
  }
  return adopted;
}

/** Undefined for a container that is of no use any more, as where its client has gone. */
async function adoptOrLeave(
  pod: GvisorPod,
  container: AdoptableContainer,
  log: Log,
): Promise<AdoptedContainer | undefined> {
  try {
    return await adoptContainer(pod, container);
  } catch (error) {
    log.warn("ending a container that cannot be taken over", {
      sandbox: pod.spec.id,
      container: container.spec.id,
      error: SandboxError.from(error),
    });
    return undefined;
  }
}

async function adoptContainer(
  pod: GvisorPod,
  { spec, record, execs = [] }: AdoptableContainer,
): Promise<AdoptedContainer> {
  const files = pod.filesOf(spec.id);
  const isStarted = await pod.control.state(spec.id) !== "created";
  const place = pod.stdioPlace(files.processDirectory(""), `container "${spec.id}"`);
  const stdio = await ProcessStdio.adopt(spec.stdio, place) ??
    await ProcessStdio.open(spec.stdio, place, AbortSignal.timeout(OPEN_MS));
  const parts = { spec, files, sharesPids: isSharing(record) };
  const container = new GvisorContainer(pod, isStarted ? parts : { ...parts, opened: stdio });
  pod.addContainer(container);
  const paused = await files.isPaused();
  if (paused) pod.wasPaused(container);
  const processes = new Map<string, ProcessHandle>();
  if (isStarted) processes.set("", container.watch("", 0, stdio));
  for (const [exec, process] of await adoptExecs(pod, container, execs)) {
    processes.set(exec, process);
  }
  return { handle: container, paused, processes };
}

async function adoptExecs(
  { control }: GvisorPod,
  container: GvisorContainer,
  execs: readonly ExecSpec[],
): Promise<ReadonlyMap<string, ProcessHandle>> {
  const adopted = new Map<string, GvisorProcess>();
  for (const exec of execs) {
    const own = await ProcessStdio.adopt(exec.stdio, container.execPlace(exec.id));
    if (own === undefined) continue;
    if (own.pid === undefined) await own.release();
    else adopted.set(exec.id, container.watch(exec.id, own.pid, own));
  }
  if (adopted.size === 0) return adopted;
  const running = new Set((await control.processes(container.spec.id)).map(({ pid }) => pid));
  const ended = [...adopted.values()].filter(({ id }) => !running.has(id));
  if (ended.length === 0) return adopted;
  // Who has heard of their exits meanwhile is there only until all is taken over.
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, EXIT_MS);
  await Promise.race([Promise.all(ended.map(({ ending }) => ending)), late]);
  clearTimeout(timer);
  return adopted;
}

function isSharing(record: Json): boolean {
  return typeof record === "object" && record !== null && "sharesPids" in record &&
    record.sharesPids === true;
}

/**
 * Ends sandboxes that belong to no pod, and removes what is left of others.
 *
 * @param options See {@link GvisorOptions}.
 * @param inUse The sandboxes of pods, by the names that runsc knows them by.
 */
export async function endStrays(
  options: GvisorOptions,
  inUse: ReadonlySet<string>,
): Promise<void> {
  const { root, podDirectory, log } = options;
  const records = (await listRecords(root)).map(({ sandboxId }) => sandboxId);
  const directories = await Array.fromAsync(Deno.readDir(podDirectory)).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return [];
    throw SandboxError.from(error, `cannot read "${podDirectory}"`);
  });
  const all = new Set([...records, ...directories.map(({ name }) => name)]);
  for (const sandbox of all) {
    if (inUse.has(sandbox)) continue;
    try {
      const directory = `${podDirectory}/${sandbox}`;
      const cgroup = await cgroupOf(directory);
      await removeSandbox(options, { sandbox, directory, cgroup });
    } catch (error) {
      log.warn("cannot end a sandbox that belongs to no pod", {
        sandbox,
        error: SandboxError.from(error),
      });
    }
  }
}

/** The cgroup that a sandbox was made in; empty where nobody knows. */
async function cgroupOf(directory: string): Promise<string> {
  try {
    const config: unknown = JSON.parse(await Deno.readTextFile(`${directory}/config.json`));
    const linux = typeof config === "object" && config !== null && "linux" in config
      ? config.linux
      : undefined;
    const path = typeof linux === "object" && linux !== null && "cgroupsPath" in linux
      ? linux.cgroupsPath
      : undefined;
    return typeof path === "string" ? path : "";
  } catch {
    return "";
  }
}
