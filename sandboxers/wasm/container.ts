/**
 * A container: one module of a root file system, its streams and directories, and the guest that
 * runs it.
 *
 * @module
 */

import type { ContainerHandle, ProcessHandle } from "../lifecycle/driver.ts";
import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import {
  type ContainerSpec,
  type Exit,
  type Json,
  rootfsPath,
  type Stats,
} from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import type { Engine, EngineGuest, GuestOptions } from "./engine.ts";
import type { System } from "./native/system.ts";
import type { ThreadStep } from "./native/thread_spec.ts";
import { openPreopens } from "./preopens.ts";
import { WasmProcess } from "./process.ts";
import { loadProgram, openRootfs } from "./rootfs.ts";
import { type GuestStdio, openStdio } from "./stdio.ts";
import { userSteps } from "./user.ts";

/** How long a killed guest may take to end: only one that waits for a broken disk takes long. */
const KILL_DEADLINE_MS = 10_000;
const SIGKILL = 9;
/** A page of linear memory in bytes. */
const PAGE_BYTES = 65_536;

/** What containers of one sandboxer share. */
export interface ContainerContext {
  /** Runs the guests. */
  readonly engine: Engine;
  /** Makes the system calls. */
  readonly system: System;
  /** Where notes go. */
  readonly log: Log;
}

/** What a container is made of. */
interface ContainerParts {
  readonly guest: EngineGuest;
  readonly stdio: GuestStdio;
  /** Owns guest, streams and module. */
  readonly release: DisposableStack;
}

/** A container that was created. */
export class WasmContainer implements ContainerHandle {
  /** Nothing outlives the process. */
  readonly record: Json = {};
  readonly #context: ContainerContext;
  readonly #spec: ContainerSpec;
  readonly #steps: readonly ThreadStep[];
  readonly #parts: ContainerParts;
  readonly #onDelete: () => void;
  #process: WasmProcess | undefined;
  #starting: Promise<ProcessHandle> | undefined;

  private constructor(
    context: ContainerContext,
    spec: ContainerSpec,
    steps: readonly ThreadStep[],
    parts: ContainerParts,
    onDelete: () => void,
  ) {
    this.#context = context;
    this.#spec = spec;
    this.#steps = steps;
    this.#parts = parts;
    this.#onDelete = onDelete;
  }

  /**
   * Makes a container ready to start: its module is loaded, its streams are open.
   *
   * @param context Engine and system.
   * @param spec The container; its root file system is in place.
   * @param steps What its thread does before it runs the guest.
   * @param signal Aborted when the caller gave up.
   * @param onDelete Called when it is deleted.
   * @throws {SandboxError} When something cannot be had; then nothing is left of it.
   */
  static async create(
    context: ContainerContext,
    spec: ContainerSpec,
    steps: readonly ThreadStep[],
    signal: AbortSignal,
    onDelete: () => void,
  ): Promise<WasmContainer> {
    validateContainer(spec);
    const parts = await createParts(context, spec, signal);
    return new WasmContainer(context, spec, steps, parts, onDelete);
  }

  /** The running or ended init process; undefined before it was started. */
  get process(): WasmProcess | undefined {
    return this.#process;
  }

  /** Starts the guest; again where it failed. */
  async start(signal: AbortSignal): Promise<ProcessHandle> {
    throwIfAborted(signal, `cannot start container "${this.#spec.id}"`);
    this.#starting = this.#start();
    return await this.#starting;
  }

  /** The guest's thread while it runs. */
  pids(): Promise<readonly number[]> {
    const process = this.#process;
    return Promise.resolve(process === undefined || process.over ? [] : [process.pid]);
  }

  /** See {@link WasmContainer.currentStats}. */
  stats(): Promise<Stats> {
    return Promise.resolve(this.currentStats());
  }

  /**
   * CPU: the time of the guest's thread, kept after its end. Memory: its linear memory as the guest
   * has grown it, whether touched or not, plus the engine's own share.
   */
  currentStats(): Stats {
    const { memoryBytes } = this.#spec.resources;
    const { guest } = this.#parts;
    const memory = guest.memory();
    return {
      at: Date.now(),
      cpuNs: guest.cpuNs(),
      memoryBytes: memory.linearBytes + memory.engineBytes,
      memoryPages: memory.linearBytes / PAGE_BYTES,
      ...(memoryBytes === undefined ? {} : { memoryLimitBytes: memoryBytes }),
      pids: this.#process === undefined || this.#process.over ? 0 : 1,
    };
  }

  /** Kills the guest where it runs, and releases everything. */
  async delete(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    await this.#process?.kill(SIGKILL);
    await this.waitEnd(KILL_DEADLINE_MS);
    this.#parts.release.dispose();
    this.#onDelete();
  }

  /**
   * Waits until the process, if there is one, has ended.
   *
   * @throws {SandboxError} `DeadlineExceeded` when it has not in time.
   */
  async waitEnd(timeoutMs: number): Promise<void> {
    if (this.#process === undefined || this.#process.over) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), timeoutMs);
    });
    const exit: Exit | undefined = await Promise.race([this.#process.exited, late]);
    clearTimeout(timer);
    if (exit !== undefined) return;
    throw new SandboxError(
      "DeadlineExceeded",
      `cannot end container "${this.#spec.id}": its thread ${this.#process.pid} still runs after ` +
        `${timeoutMs} ms`,
    );
  }

  async #start(): Promise<ProcessHandle> {
    const { guest, stdio } = this.#parts;
    const steps = [...this.#steps, ...userSteps(this.#spec.process.user)];
    const tid = await guest.start({ name: threadName(this.#spec), steps });
    this.#process = new WasmProcess(tid, guest, this.#context.system, stdio);
    return this.#process;
  }
}

/**
 * Refuses what a wasm container can never be.
 *
 * @throws {SandboxError} `InvalidArgument`.
 */
export function validateContainer(spec: ContainerSpec): void {
  if (spec.stdio.terminal) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot create container "${spec.id}" with a terminal: WASI has none: create it without`,
    );
  }
  if (spec.process.args.length === 0) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot create container "${spec.id}" without a program: the image has no entrypoint`,
    );
  }
}

async function createParts(
  context: ContainerContext,
  spec: ContainerSpec,
  signal: AbortSignal,
): Promise<ContainerParts> {
  const { engine, system, log } = context;
  const action = `cannot create container "${spec.id}"`;
  throwIfAborted(signal, action);
  using opened = new DisposableStack();
  using release = new DisposableStack();
  const rootfs = opened.adopt(
    openRootfs(system, rootfsPath(spec.rootfs)),
    (fd) => system.close(fd),
  );
  const module = release.use(
    await loadProgram(system, rootfs, spec.process, (bytes) => {
      throwIfAborted(signal, action);
      return engine.load(bytes);
    }),
  );
  throwIfAborted(signal, action);
  const stdio = release.use(openStdio(system, spec.stdio));
  const { preopens, skipped } = opened.use(openPreopens(system, rootfs, spec));
  if (skipped.length > 0) log.debug("Files not mounted: wasm guests get directories", { skipped });
  const guest = release.use(
    await engine.instantiate(module, guestOptions(spec, stdio, preopens)),
  );
  throwIfAborted(signal, action);
  return { guest, stdio, release: release.move() };
}

function guestOptions(
  spec: ContainerSpec,
  stdio: GuestStdio,
  preopens: GuestOptions["preopens"],
): GuestOptions {
  const { args, env, cwd } = spec.process;
  const { memoryBytes } = spec.resources;
  return {
    args,
    // WASI has no working directory: programs that want one read PWD (Go's runtime does).
    env: env.some((entry) => entry.startsWith("PWD=")) ? env : [...env, `PWD=${cwd}`],
    preopens,
    stdin: stdio.stdin,
    stdout: stdio.stdout,
    stderr: stdio.stderr,
    ...(memoryBytes === undefined ? {} : { memoryLimitBytes: memoryBytes }),
  };
}

/** What `ps -L` and `top -H` show of a guest: the start of its container's id. */
function threadName(spec: ContainerSpec): string {
  return `w-${spec.id}`.slice(0, 15);
}
