/**
 * runsc's own files about containers, below its root directory: read without a run of the program,
 * and removed where the program would wait for long. Their names and fields are those of gVisor's
 * releases since 2022 (package runsc/container, state_file.go).
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** What runsc says of the state of a container. */
export type RunscStatus = "creating" | "created" | "running" | "paused" | "stopped";

/** What runsc has written down of a container. */
export interface RunscRecord {
  /** Its state when runsc last changed it; it can have ended since. */
  readonly status: RunscStatus;
  /** The process of its sandbox; 0 where there is none. */
  readonly sandboxPid: number;
  /** The process that serves its files; 0 where there is none. */
  readonly goferPid: number;
  /** The control socket of its sandbox; empty where there is none. */
  readonly controlSocket: string;
}

/** Names a container below runsc's root directory. A sandbox is a container of its own name. */
export interface RunscContainer {
  /** Its id. */
  readonly id: string;
  /** The id of its sandbox. */
  readonly sandboxId: string;
}

const STATUSES: readonly string[] = ["creating", "created", "running", "paused", "stopped"];

/**
 * The file in which runsc keeps what it knows of a container.
 *
 * @param root runsc's root directory.
 */
export function statePath(root: string, { id, sandboxId }: RunscContainer): string {
  return `${root}/${id}_sandbox:${sandboxId}.state`;
}

/**
 * The control socket of a sandbox, where its path is short enough.
 *
 * @param root runsc's root directory.
 */
export function controlSocketPath(root: string, sandboxId: string): string {
  return `${root}/runsc-${sandboxId}.sock`;
}

/**
 * Reads what runsc has written down of a container.
 *
 * @param root runsc's root directory.
 * @param container Which one.
 * @returns Undefined where runsc knows no such container.
 * @throws {SandboxError} `DataLoss` where the file is damaged.
 */
export async function readRecord(
  root: string,
  container: RunscContainer,
): Promise<RunscRecord | undefined> {
  const path = statePath(root, container);
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw SandboxError.from(error, `cannot read the state of container "${container.id}"`);
  }
  const record = parseRecord(text);
  if (record !== undefined) return record;
  throw new SandboxError(
    "DataLoss",
    `cannot read the state of container "${container.id}": "${path}" is damaged`,
  );
}

/**
 * Reads the text of such a file.
 *
 * @returns Undefined where it is not what runsc writes.
 */
export function parseRecord(text: string): RunscRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const status = field(value, "status");
  if (typeof status !== "string" || !isStatus(status)) return undefined;
  const sandbox = field(value, "sandbox");
  const socket = field(sandbox, "controlSocketPath");
  return {
    status,
    sandboxPid: pid(field(sandbox, "pid")),
    goferPid: pid(field(value, "goferPid")),
    controlSocket: typeof socket === "string" ? socket : "",
  };
}

/**
 * Makes runsc forget a container, without a run of the program: for one whose processes have ended.
 * Succeeds where there is nothing.
 *
 * @param root runsc's root directory.
 * @param container Which one; for a sandbox its control socket goes too.
 */
export async function removeRecord(root: string, container: RunscContainer): Promise<void> {
  const state = statePath(root, container);
  await remove(state);
  await remove(state.replace(/\.state$/, ".lock"));
  if (container.id === container.sandboxId) await remove(controlSocketPath(root, container.id));
}

/** The containers that runsc has files of, also where their creation was cut short. */
export async function listRecords(root: string): Promise<RunscContainer[]> {
  const found: RunscContainer[] = [];
  try {
    for await (const { name } of Deno.readDir(root)) {
      const [, id, sandboxId] = /^(.+)_sandbox:(.+)\.lock$/.exec(name) ?? [];
      if (id !== undefined && sandboxId !== undefined) found.push({ id, sandboxId });
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) {
      throw SandboxError.from(error, `cannot list the containers of "${root}"`);
    }
  }
  return found;
}

async function remove(path: string): Promise<void> {
  await Deno.remove(path).catch((error: unknown) => {
    if (!(error instanceof Deno.errors.NotFound)) {
      throw SandboxError.from(error, `cannot remove "${path}"`);
    }
  });
}

function isStatus(text: string): text is RunscStatus {
  return STATUSES.includes(text);
}

function field(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  return Object.entries(value).find(([key]) => key === name)?.[1];
}

function pid(value: unknown): number {
  return typeof value === "number" && Number.isSafeInteger(value) && value > 0 ? value : 0;
}
