/**
 * Starts the processes of pods and finds them again. All there is of one outside of itself is a
 * directory with its socket, and its cgroups.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { SandboxError, throwIfAborted } from "../../lifecycle/errors.ts";
import type { Json, SandboxSpec } from "../../lifecycle/spec.ts";
import type { Log, LogLevel } from "../../log.ts";
import { DEFAULT_LAUNCHER_PATH } from "../native/launcher_file.ts";
import type { System } from "../native/system.ts";
import { openNetwork } from "../network.ts";
import { PodFiles, removePodFiles } from "../pod_files.ts";
import type { LiveProcess, Processes, ProcessIdentity } from "./live_process.ts";
import type { PodCgroups, ProcessCgroups } from "./pod_cgroups.ts";
import type { PodProcess } from "./process_pod.ts";
import { fromWire, parseStarted, type PodStart, type PodStarted } from "./protocol.ts";

/** How long a pod process may take to start. */
const START_TIMEOUT_MS = 30_000;
/** How long one that failed to start may take to end. */
const END_TIMEOUT_MS = 10_000;
/** Most characters of a directory's name. */
const NAME_LENGTH_MAX = 24;
/** The socket of the pod's relay in its directory. */
const TASK_SOCKET_FILE = "tasks";
/** Where the launcher writes which process it is; see launcher_pod.c. */
const IDENTITY_FILE = "process";
/** How much of what it says while it starts is kept, in characters. */
const TEXT_LENGTH_MAX = 65_536;

/** What a {@link PodLauncher} works with. */
export interface PodLauncherOptions {
  /** Where the directories of pods' sockets are, an absolute path; made when it is needed. */
  readonly directory: string;
  /** Where pods write the files that containers mount; see ../pod_files.ts. */
  readonly podDirectory: string;
  /** The sandboxer's Task API socket, an absolute path: calls to a pod's own socket go there. */
  readonly taskSocket: string;
  /** Makes system calls. */
  readonly system: System;
  /** Looks processes up. */
  readonly processes: Processes;
  /** Makes the cgroups. */
  readonly cgroups: PodCgroups;
  /** Where notes go. */
  readonly log: Log;
  /** How much pod processes that are started now say. */
  readonly logLevel: () => LogLevel;
  /** The launcher (default: the one that was built). */
  readonly launcherPath?: string;
}

/** Starts pod processes. */
export class PodLauncher {
  readonly #options: PodLauncherOptions;

  /**
   * Starts nothing yet.
   *
   * @param options See {@link PodLauncherOptions}.
   */
  constructor(options: PodLauncherOptions) {
    this.#options = options;
  }

  /**
   * Starts the process of a pod.
   *
   * @param spec The pod.
   * @param signal Aborted when the caller gave up.
   * @returns The process; it listens.
   * @throws {SandboxError} When it cannot be started; then nothing is left of it.
   */
  async start(spec: SandboxSpec, signal: AbortSignal): Promise<PodProcess> {
    const action = `cannot start sandbox "${spec.id}"`;
    throwIfAborted(signal, action);
    // What is wrong with the network is told before anything is made.
    openNetwork(this.#options.system, spec.network)[Symbol.dispose]();
    const directory = this.#directoryOf(spec.id);
    const cgroups = this.#options.cgroups.make(spec);
    try {
      await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
      const process = await this.#launch(spec, directory, cgroups, signal);
      return this.#podProcess(spec, directory, process);
    } catch (error) {
      await this.#remove(spec, directory);
      throw SandboxError.from(error, action);
    }
  }

  /**
   * Finds the process of a pod that an earlier sandboxer started.
   *
   * @param spec The pod.
   * @param record What its handle left; null where nothing was stored.
   * @returns Undefined when it is gone; then what was left of it is removed.
   */
  async find(spec: SandboxSpec, record: Json): Promise<PodProcess | undefined> {
    const directory = this.#directoryOf(spec.id);
    const identity = identityOf(record) ?? await identityIn(directory);
    const { processes } = this.#options;
    const process = identity && await processes.find(identity.pid, identity.startTime);
    if (process !== undefined) return this.#podProcess(spec, directory, process);
    await this.#remove(spec, directory);
    return undefined;
  }

  #directoryOf(id: string): string {
    return `${this.#options.directory}/${shortName(id)}`;
  }

  #podProcess(spec: SandboxSpec, directory: string, process: LiveProcess): PodProcess {
    const { system, podDirectory } = this.#options;
    return {
      spec,
      directory,
      process,
      taskSocket: `${directory}/${TASK_SOCKET_FILE}`,
      files: new PodFiles(system, podDirectory, spec),
      limitMemory: (bytes) => this.#options.cgroups.limitMemory(spec, bytes),
      thaw: () => this.#options.cgroups.thaw(spec),
      ranOutOfMemory: () => this.#options.cgroups.ranOutOfMemory(spec),
      remove: () => this.#remove(spec, directory),
    };
  }

  async #remove(spec: SandboxSpec, directory: string): Promise<void> {
    // The directory first: a process that was never heard of ends when its socket is gone.
    await Deno.remove(directory, { recursive: true }).catch((error: unknown) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    removePodFiles(this.#options.podDirectory, spec.id);
    await this.#options.cgroups.remove(spec);
  }

  async #launch(
    spec: SandboxSpec,
    directory: string,
    cgroups: ProcessCgroups,
    signal: AbortSignal,
  ): Promise<LiveProcess> {
    const child = new Deno.Command(this.#options.launcherPath ?? DEFAULT_LAUNCHER_PATH, {
      args: [
        "pod",
        `--directory=${directory}`,
        `--tasks=${this.#options.taskSocket}`,
        ...launcherArguments(spec, cgroups),
      ],
      clearEnv: true,
      cwd: "/",
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    // It is not waited for: it may outlive this process.
    child.unref();
    const process = await this.#options.processes.find(child.pid);
    try {
      const logLevel = this.#options.logLevel();
      await this.#begin(child, { spec, directory, logLevel }, signal);
      if (process !== undefined) return process;
      throw new SandboxError("Internal", "the pod process has ended");
    } catch (error) {
      await process?.end(END_TIMEOUT_MS);
      process?.[Symbol.dispose]();
      throw error;
    }
  }

  /** Gives a process its work and waits until it says that it has begun. */
  async #begin(child: Deno.ChildProcess, start: PodStart, signal: AbortSignal): Promise<void> {
    const limit = AbortSignal.any([signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => undefined);
    const abort = (): void => aborted.reject(startError(limit));
    limit.addEventListener("abort", abort, { once: true });
    if (limit.aborted) abort();
    const answer = readLine(child.stdout);
    const complaints = readLast(child.stderr);
    try {
      const given = give(child.stdin, JSON.stringify(start));
      const line = await Promise.race([answer.text, aborted.promise]);
      await given;
      const started = line === "" ? await failed(complaints.text, child) : parseStarted(line);
      if (!started.ready) throw fromWire(started.error);
    } finally {
      limit.removeEventListener("abort", abort);
      // It says nothing more there, but keeps its side open.
      await Promise.all([answer.cancel(), complaints.cancel()]);
    }
  }
}

/** Containerd's ids have 64 characters, which with their directory are too long for a socket. */
function shortName(id: string): string {
  if (id.length <= NAME_LENGTH_MAX) return id;
  const digest = createHash("sha256").update(id).digest("hex");
  return `${id.slice(0, 8)}-${digest.slice(0, 16)}`;
}

function launcherArguments({ id, network }: SandboxSpec, cgroups: ProcessCgroups): string[] {
  return [
    ...network.kind === "namespace" ? [`--network=${network.path}`] : [],
    ...cgroups.enter.map((path) => `--cgroup=${path}`),
    ...cgroups.readable.map((path) => `--readable=${path}`),
    ...cgroups.writable.map((path) => `--writable=${path}`),
    id,
  ];
}

function startError(signal: AbortSignal): SandboxError {
  const reason: unknown = signal.reason;
  if (reason instanceof SandboxError) return reason;
  if (reason instanceof DOMException && reason.name === "TimeoutError") {
    return new SandboxError("DeadlineExceeded", "the pod process did not start in time");
  }
  return new SandboxError("Cancelled", "it was given up while its pod process started");
}

/** What a process says that ended instead of beginning. */
async function failed(complaints: Promise<string>, child: Deno.ChildProcess): Promise<PodStarted> {
  const [last, { code, signal }] = await Promise.all([complaints, child.status]);
  const end = signal === null ? `status ${code}` : signal;
  const message = `its pod process has ended with ${end}: ${last}`;
  return { ready: false, error: { code: "Internal", message } };
}

/** A text that is being read. */
interface Reading {
  readonly text: Promise<string>;
  /** Reads no further. */
  cancel(): Promise<void>;
}

/** The first line; empty where it ended without one. */
function readLine(stream: ReadableStream<Uint8Array>): Reading {
  return read(stream, (text) => text.includes("\n"), (text) => text.split("\n")[0] ?? "");
}

/** The last line, once it has ended. */
function readLast(stream: ReadableStream<Uint8Array>): Reading {
  return read(stream, () => false, (text) => text.trim().split("\n").at(-1) ?? "");
}

function read(
  stream: ReadableStream<Uint8Array>,
  enough: (text: string) => boolean,
  part: (text: string) => string,
): Reading {
  const reader = stream.getReader();
  const all = async (): Promise<string> => {
    const decoder = new TextDecoder();
    let text = "";
    while (!enough(text)) {
      const { value, done } = await reader.read();
      if (done) break;
      text = (text + decoder.decode(value, { stream: true })).slice(-TEXT_LENGTH_MAX);
    }
    return part(text);
  };
  return { text: all().catch(() => ""), cancel: () => reader.cancel().catch(() => undefined) };
}

/** Writes a text. A process that has ended takes none; what it said before tells why. */
async function give(stream: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stream.getWriter();
  try {
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  } catch {
    // See above.
  }
}

function identityOf(record: Json): ProcessIdentity | undefined {
  if (typeof record !== "object" || record === null || !("pid" in record)) return undefined;
  const { pid, startTime } = record;
  if (typeof pid !== "number" || typeof startTime !== "string") return undefined;
  return { pid, startTime };
}

/** What the launcher left: for a process whose sandboxer ended before it stored it. */
async function identityIn(directory: string): Promise<ProcessIdentity | undefined> {
  try {
    const text = await Deno.readTextFile(`${directory}/${IDENTITY_FILE}`);
    const [pid = "", startTime = ""] = text.split(" ");
    return /^\d+$/.test(pid) && /^\d+$/.test(startTime)
      ? { pid: Number(pid), startTime }
      : undefined;
  } catch {
    return undefined;
  }
}
