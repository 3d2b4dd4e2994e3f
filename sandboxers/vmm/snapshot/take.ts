/**
 * Takes a snapshot of a running sandbox: its machine with its memory, and the images of its
 * containers' root file systems. Containers stand still while the memory is saved, so that in a
 * sandbox that is made of it nothing runs before it has a clock and entropy of its own.
 *
 * @module
 */

import type { GuestStdio } from "../../../guest/protocol/messages.ts";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { SandboxSpec } from "../../lifecycle/spec.ts";
import type { VmContainer } from "../container.ts";
import type { Guest } from "../guest.ts";
import type { Machine } from "../hypervisor.ts";
import { copyFile, linkOrCopy } from "../storage/link_or_copy.ts";
import { checkReachable } from "./reachable.ts";
import { type SnapshotContainer, type SnapshotRecord, writeSnapshotRecord } from "./record.ts";

/** How long freezing or thawing a container may take, in milliseconds. */
const FREEZE_MS = 30_000;
/** The mode of a snapshot's directory: its owner's, and that VMMs can enter it. */
const DIRECTORY_MODE = 0o710;

/** A sandbox, as far as a snapshot needs it. */
export interface SnapshotSource {
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** Its guest. */
  readonly guest: Guest;
  /** Its containers, in the order in which they were made. */
  readonly containers: readonly VmContainer[];
}

/** A container that runs, and its streams in the guest. */
interface Running {
  readonly container: VmContainer;
  readonly stdio: GuestStdio;
}

/**
 * Takes a snapshot. The sandbox goes on afterwards.
 *
 * @param source The sandbox.
 * @param directory Where it goes: an absolute path, where nothing is yet.
 * @param ownsImages Tells images that nobody ever writes to: they are linked, others copied.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` for a sandbox that has files or the network of the
 *   host, or a paused container; `AlreadyExists` where something is in the way; `ResourceExhausted`
 *   where the disk is full. Nothing is left of it then.
 */
export async function takeSnapshot(
  source: SnapshotSource,
  directory: string,
  ownsImages: (path: string) => boolean,
  signal: AbortSignal,
): Promise<void> {
  const action = `cannot take a snapshot of sandbox "${source.spec.id}"`;
  let made = false;
  try {
    throwIfAborted(signal, "it was given up");
    const save = savableMachine(source);
    await checkReachable(directory, source.guest.user);
    await makeDirectory(directory, source.guest);
    made = true;
    const images = await keepImages(source, directory, ownsImages, signal);
    const running = await saveFrozen(source, save, directory, signal);
    const containers = running.map((each) => describe(each, images));
    await removeOthers(images, running, directory);
    await writeSnapshotRecord(directory, recordOf(source, containers));
  } catch (error) {
    if (made) await Deno.remove(directory, { recursive: true }).catch(() => undefined);
    const { code, message } = SandboxError.from(unsuppressed(error));
    throw new SandboxError(code, `${action}: ${message}`, { cause: error });
  }
}

/** The first of several failures: those of cleaning up after it hide it. */
function unsuppressed(error: unknown): unknown {
  return error instanceof SuppressedError ? unsuppressed(error.suppressed) : error;
}

function savableMachine({ spec, guest, containers }: SnapshotSource): Required<Machine>["save"] {
  const refuse = (reason: string): never => {
    throw new SandboxError("FailedPrecondition", reason);
  };
  const { machine } = guest;
  if (guest.over) refuse("its machine has ended");
  if (spec.network.kind === "namespace") {
    refuse("its addresses are those of a network namespace, which cannot be had twice");
  }
  for (const { spec: { id, mounts } } of containers) {
    const [mount] = mounts;
    if (mount === undefined) continue;
    refuse(`container "${id}" sees "${mount.source}" of the host at "${mount.destination}"`);
  }
  if (guest.hasSharedTree) refuse("it shares a tree of files with the host");
  if (machine.save === undefined) {
    throw new SandboxError("Unimplemented", "its VMM cannot save machines");
  }
  return (to, options) => machine.save?.(to, options) ?? Promise.resolve();
}

async function makeDirectory(directory: string, { user }: Guest): Promise<void> {
  await Deno.mkdir(directory, { mode: 0o700 });
  try {
    await Deno.chmod(directory, DIRECTORY_MODE);
    if (user !== undefined) await Deno.chown(directory, null, user.gid);
  } catch (error) {
    await Deno.remove(directory).catch(() => undefined);
    throw error;
  }
}

/** Saves the machine while its containers stand still. @returns Those that are in its memory. */
async function saveFrozen(
  source: SnapshotSource,
  save: Required<Machine>["save"],
  directory: string,
  signal: AbortSignal,
): Promise<Running[]> {
  await using thaw = new AsyncDisposableStack();
  const running = await freeze(source, thaw, signal);
  throwIfAborted(signal, "it was given up");
  await saveMachine(source.guest, save, directory);
  return running;
}

/**
 * Makes the containers stand still, and looks what there is of them.
 *
 * @param thaw Lets them go on.
 */
async function freeze(
  { guest: { agent }, containers }: SnapshotSource,
  thaw: AsyncDisposableStack,
  signal: AbortSignal,
): Promise<Running[]> {
  const options = { signal, timeoutMs: FREEZE_MS };
  const before = await agent.request("inventory", {}, options);
  const known = new Map(containers.map((container) => [container.name, container]));
  const frozen = new Set<string>();
  for (const { container, state } of before.containers) {
    const found = known.get(container);
    if (found === undefined) continue;
    if (state === "paused") {
      throw new SandboxError(
        "FailedPrecondition",
        `container "${found.spec.id}" is paused: resume it first`,
      );
    }
    if (state !== "running") continue;
    // Also where the answer does not come.
    thaw.defer(() => unlessGone(agent.request("resume", { container }, { timeoutMs: FREEZE_MS })));
    // Not given up half-way: nobody would know whether it stands still.
    await unlessGone(agent.request("pause", { container }, { timeoutMs: FREEZE_MS }));
    frozen.add(container);
    throwIfAborted(signal, "it was given up");
  }
  // What was read of their outputs until now does not come again.
  agent.flush();
  const after = await agent.request("inventory", {}, options);
  return after.containers.flatMap(({ container: name, state, processes }) => {
    const container = known.get(name);
    const init = processes.find(({ exec }) => exec === "");
    const stands = frozen.has(name) && state === "paused";
    return container === undefined || init === undefined || !stands
      ? []
      : [{ container, stdio: init.stdio }];
  });
}

/** Waits for an answer about a container, which may have ended or been deleted meanwhile. */
async function unlessGone(answer: Promise<unknown>): Promise<void> {
  try {
    await answer;
  } catch (error) {
    const { code } = SandboxError.from(error);
    if (code !== "NotFound" && code !== "FailedPrecondition") throw error;
  }
}

/** Keeps the images of all containers. @returns Files of the directory, by the containers' names. */
async function keepImages(
  { containers }: SnapshotSource,
  directory: string,
  ownsImages: (path: string) => boolean,
  signal: AbortSignal,
): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for (const [index, { name, image }] of containers.entries()) {
    if (image === undefined) continue;
    const file = `disk-${index}`;
    const keep = ownsImages(image.path) ? linkOrCopy : copyFile;
    await keep(image.path, `${directory}/${file}`, signal);
    files.set(name, file);
  }
  return files;
}

/** Removes the images of containers that have ended before the machine was saved. */
async function removeOthers(
  images: ReadonlyMap<string, string>,
  running: readonly Running[],
  directory: string,
): Promise<void> {
  const names = new Set(running.map(({ container }) => container.name));
  for (const [name, file] of images) {
    if (!names.has(name)) await Deno.remove(`${directory}/${file}`);
  }
}

function describe(
  { container: { name, spec, image }, stdio }: Running,
  images: ReadonlyMap<string, string>,
): SnapshotContainer {
  const file = images.get(name);
  if (file === undefined || image === undefined) {
    throw new SandboxError("FailedPrecondition", `the image of container "${spec.id}" is gone`);
  }
  return {
    id: spec.id,
    name,
    command: spec.process.args,
    image: file,
    serial: image.serial,
    streams: {
      stdin: stdio.stdin !== undefined,
      stdout: stdio.stdout !== undefined,
      stderr: stdio.stderr !== undefined,
      terminal: stdio.terminal !== undefined,
    },
  };
}

async function saveMachine(
  { agent }: Guest,
  save: Required<Machine>["save"],
  directory: string,
): Promise<void> {
  // It does not answer while its machine stands still.
  agent.watch(false);
  try {
    await save(directory, { resume: true });
  } finally {
    agent.watch(true);
  }
}

function recordOf(
  { spec, guest }: SnapshotSource,
  containers: readonly SnapshotContainer[],
): SnapshotRecord {
  const { memoryBytes, cpuQuotaUs, cpuPeriodUs } = spec.resources;
  return {
    hostname: spec.hostname,
    network: spec.network.kind === "user" ? "user" : "none",
    cpus: guest.cpus,
    resources: {
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
      ...(cpuQuotaUs === undefined ? {} : { cpuQuotaUs }),
      ...(cpuPeriodUs === undefined ? {} : { cpuPeriodUs }),
    },
    containers,
  };
}
