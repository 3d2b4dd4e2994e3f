/**
 * Takes a snapshot of a running sandbox with all its containers: runsc saves the memory of the whole,
 * which goes on. Root file systems stay where they are; so nothing may be written to them.
 *
 * Source of what runsc can save and bring back: release 20240729.0 as it was seen to work.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../../../lifecycle/errors.ts";
import type {
  ContainerSpec,
  RootfsSpec,
  SandboxSpec,
  StreamSpec,
} from "../../../lifecycle/spec.ts";
import { objectOf, parseJsonObject, stringOf } from "../../../oci/json.ts";
import { removeTree } from "../../../removal.ts";
import { NAME_ANNOTATION } from "../container_config.ts";
import type { Runsc } from "../runsc.ts";
import { keptLimits, type SnapshotContainer, writeSnapshotRecord } from "./record.ts";

/** How long runsc may take, in milliseconds: it writes all memory that is in use. */
const SAVE_MS = 600_000;

/** A container, as far as a snapshot needs it. */
export interface SnapshotSourceContainer {
  /** What was asked for. */
  readonly spec: ContainerSpec;
  /** What has become of its first process. */
  readonly state: "created" | "running" | "ended";
  /** Its other processes that run, by their ids. */
  readonly execs: readonly string[];
  /** The directory of its config.json. */
  readonly bundle: string;
}

/** A sandbox, as far as a snapshot needs it; it stands still. */
export interface SnapshotSource {
  /** What was asked for. */
  readonly spec: SandboxSpec;
  /** The name by which runsc knows it. */
  readonly sandbox: string;
  /** Whether it has ended. */
  readonly over: boolean;
  /** Whether some container of it is paused. */
  readonly isPaused: boolean;
  /** Whether containers of a snapshot have not been brought back yet. */
  readonly isRestoring: boolean;
  /** Its containers, in the order in which they were made. */
  readonly containers: readonly SnapshotSourceContainer[];
  /** Calls runsc for it. */
  runsc(): Promise<Runsc>;
}

/**
 * Takes a snapshot. The sandbox goes on afterwards.
 *
 * @param source The sandbox.
 * @param directory Where it goes: an absolute path, where nothing is yet.
 * @param stateDirectory That of this sandboxer: what lies below goes with sandboxes.
 * @param signal Aborted when the caller gave up.
 * @throws {SandboxError} `FailedPrecondition` for what runsc cannot save or bring back, with what to
 *   do; `AlreadyExists` where something is in the way; `ResourceExhausted` where the disk is full.
 *   Nothing is left of it then.
 */
export async function takeSnapshot(
  source: SnapshotSource,
  directory: string,
  stateDirectory: string,
  signal: AbortSignal,
): Promise<void> {
  const action = `cannot take a snapshot of sandbox "${source.spec.id}"`;
  let made = false;
  try {
    throwIfAborted(signal, "it was given up");
    checkSandbox(source);
    const runsc = await source.runsc();
    const { overlay = "none" } = runsc.options;
    const containers = await Promise.all(
      source.containers.map((container) => describe(container, overlay, stateDirectory)),
    );
    const { version } = await runsc.version();
    await Deno.mkdir(directory, { mode: 0o700 });
    made = true;
    const order = { imageDirectory: directory, leavesRunning: true };
    await runsc.checkpoint(source.sandbox, order, { signal, timeoutMs: SAVE_MS });
    const { hostname, resources } = source.spec;
    const record = { runsc: version, overlay, hostname, resources: keptLimits(resources) };
    await writeSnapshotRecord(directory, { ...record, containers });
  } catch (error) {
    if (made) await removeTree(directory).catch(() => undefined);
    const { code, message } = SandboxError.from(error);
    throw new SandboxError(code, `${action}: ${message}`, { cause: error });
  }
}

function refuse(reason: string): never {
  throw new SandboxError("FailedPrecondition", reason);
}

function checkSandbox({ spec, over, isPaused, isRestoring }: SnapshotSource): void {
  if (over) refuse("it has ended");
  if (isRestoring) refuse("not all containers of the snapshot that it is made of run yet");
  if (isPaused) refuse("a container of it is paused: resume it first");
  switch (spec.network.kind) {
    case "none":
      return;
    case "host":
      return refuse("it has the host's network, which runsc cannot save: choose none");
    default:
      refuse("its addresses are those of a network namespace, which cannot be had twice");
  }
}

async function describe(
  { spec, state, execs, bundle }: SnapshotSourceContainer,
  overlay: string,
  stateDirectory: string,
): Promise<SnapshotContainer> {
  const { id, stdio, mounts: [mount], process, readonlyRootfs, resources } = spec;
  const label = `container "${id}"`;
  if (state === "created") refuse(`${label} was not started: start it or delete it first`);
  if (state === "ended") refuse(`${label} has ended: delete it first`);
  if (execs[0] !== undefined) {
    refuse(
      `process "${execs[0]}" runs beside the first one of ${label}, and runsc cannot bring it ` +
        "back: end it first",
    );
  }
  if (stdio.terminal) refuse(`${label} has a terminal, which runsc cannot bring back`);
  if (spec.bundle !== "") refuse(`${label} was made of a bundle of containerd's`);
  if (mount !== undefined) {
    refuse(`${label} sees "${mount.source}" of the host at "${mount.destination}"`);
  }
  if (overlay !== "memory" && !readonlyRootfs) {
    refuse(
      `${label} writes to its root file system on the host: set gvisor.overlay to "memory", or ` +
        "run it with a read-only root file system",
    );
  }
  const rootfs = unwrittenRootfs(spec.rootfs);
  if (rootfs === undefined || rootfs.startsWith(`${stateDirectory}/`)) {
    refuse(`the root file system of ${label} goes with it: run it from an image or a directory`);
  }
  return {
    id,
    name: await nameOf(bundle, label),
    command: process.args,
    rootfs,
    readonlyRootfs,
    resources: keptLimits(resources),
    streams: {
      stdin: isThere(stdio.stdin),
      stdout: isThere(stdio.stdout),
      stderr: isThere(stdio.stderr),
    },
  };
}

function isThere({ kind }: StreamSpec): boolean {
  return kind !== "null";
}

/**
 * The directory whose files a container sees where it has written nothing; undefined where there is
 * not one.
 */
function unwrittenRootfs(rootfs: RootfsSpec): string | undefined {
  if (rootfs.kind === "directory") return rootfs.path;
  const mount = rootfs.mounts.at(-1);
  // What is written over an image may have a file system of its own, below the overlay.
  const isPlain = rootfs.mounts.slice(0, -1).every(({ type }) => type === "tmpfs");
  if (mount === undefined || !isPlain) return undefined;
  if (mount.type === "bind") return mount.source;
  if (mount.type !== "overlay") return undefined;
  const lower = mount.options.find((option) => option.startsWith("lowerdir="))?.slice(9) ?? "";
  return lower === "" || /[:\\]/.test(lower) ? undefined : lower;
}

/** The name by which the sentry knows a container. */
async function nameOf(bundle: string, label: string): Promise<string> {
  const path = `${bundle}/config.json`;
  const text = await Deno.readTextFile(path).catch((error: unknown) => {
    throw SandboxError.from(error, `cannot read "${path}"`);
  });
  const name = stringOf(objectOf(parseJsonObject(text, path), "annotations"), NAME_ANNOTATION);
  return name === "" ? refuse(`${label} was made by an earlier version, without a name`) : name;
}
