/**
 * One guest of a container: the init process or an exec beside it. Both are made here, in the same
 * way: program, streams and directories first, so that what is wrong with them is told before
 * anything runs; then the thread.
 *
 * @module
 */

import { SandboxError, throwIfAborted } from "../lifecycle/errors.ts";
import type { Observer, OperationName } from "../lifecycle/observer.ts";
import type { ContainerSpec, Exit, ProcessSpec, StdioSpec } from "../lifecycle/spec.ts";
import type { Log } from "../log.ts";
import type {
  Engine,
  EngineGuest,
  GuestMemory,
  GuestOptions,
  GuestThreadOptions,
} from "./engine.ts";
import type { Cgroups } from "./cgroups/cgroups.ts";
import type { ContainerFiles, FileCalls } from "./files.ts";
import { WasmProcess } from "./process.ts";
import { knownPrograms } from "./known_programs.ts";
import { loadProgram } from "./rootfs.ts";
import type { SeccompFilters } from "./seccomp.ts";
import { type GuestStdio, openStdio } from "./stdio.ts";

/** Descriptors that a guest may open where nothing is said: what Linux gives a process. */
const DESCRIPTORS_DEFAULT = 1_024;
/** The most that a guest may open: all guests share those of one process. */
const DESCRIPTORS_MAX = 65_536;

/** What containers of one sandboxer share. */
export interface ContainerContext extends FileCalls {
  /** Runs the guests. */
  readonly engine: Engine;
  /** Keeps limits. */
  readonly cgroups: Cgroups;
  /** Where pods keep what they write for their containers; undefined for nowhere. */
  readonly podDirectory: string | undefined;
  /** Compiles seccomp profiles. */
  readonly filters: SeccompFilters;
  /** Hears of the phases of starts. */
  readonly observer: Observer;
  /** Where notes go. */
  readonly log: Log;
}

/** The container that a guest is made in. */
export interface GuestPlace {
  /** The container as it was asked for. */
  readonly spec: ContainerSpec;
  /** Its files; they stay the caller's. */
  readonly files: ContainerFiles;
}

/** What a guest is to be. */
export interface GuestRole {
  /** What to call it in messages, such as `container "web"`. */
  readonly label: string;
  /** The operation that it is made in. */
  readonly operation: OperationName;
  /** What to run, and as whom. */
  readonly process: ProcessSpec;
  /** Where its streams go. */
  readonly stdio: StdioSpec;
}

/** What a guest is made of. */
interface GuestParts {
  readonly guest: EngineGuest;
  readonly stdio: GuestStdio;
  /** Owns guest, streams and module. */
  readonly release: DisposableStack;
}

/** A guest that is ready to start, runs, or has ended. Dispose of it when it does not run. */
export class GuestProcess implements Disposable {
  readonly #context: ContainerContext;
  readonly #label: string;
  readonly #parts: GuestParts;
  #process: WasmProcess | undefined;
  #starting: Promise<unknown> | undefined;

  private constructor(context: ContainerContext, label: string, parts: GuestParts) {
    this.#context = context;
    this.#label = label;
    this.#parts = parts;
  }

  /**
   * Makes a guest ready to start: its module is loaded, its streams are open.
   *
   * @param context Engine and system.
   * @param place The container.
   * @param role What the guest is to be.
   * @param signal Aborted when the caller gave up.
   * @throws {SandboxError} When something cannot be had; then nothing is left of it.
   */
  static async create(
    context: ContainerContext,
    place: GuestPlace,
    role: GuestRole,
    signal: AbortSignal,
  ): Promise<GuestProcess> {
    validateProcess(role);
    const parts = await createParts(context, place, role, signal);
    return new GuestProcess(context, role.label, parts);
  }

  /** The running or ended process; undefined before it was started. */
  get process(): WasmProcess | undefined {
    return this.#process;
  }

  /** Whether it was started and has not ended. */
  get running(): boolean {
    return this.#process !== undefined && !this.#process.over;
  }

  /**
   * Starts it; again where that failed.
   *
   * @param options How its thread is set up.
   * @param letGo Called when its thread was told to end: lets it run where it is frozen.
   * @throws {SandboxError} When a setting of the thread failed; then nothing has run.
   */
  async start(
    options: GuestThreadOptions,
    letGo: (tid: number) => Promise<void>,
  ): Promise<WasmProcess> {
    const { guest, stdio } = this.#parts;
    const starting = guest.start(options);
    this.#starting = starting;
    const { system } = this.#context;
    this.#process = new WasmProcess(await starting, guest, system, stdio, letGo);
    return this.#process;
  }

  /** CPU time used so far in nanoseconds; kept after the end. */
  cpuNs(): number {
    return this.#parts.guest.cpuNs();
  }

  /** Memory it holds; nothing after its end. */
  memory(): GuestMemory {
    return this.#parts.guest.memory();
  }

  /** Sends a signal, if it runs. A start that is under way is waited for. */
  async kill(signal: number): Promise<void> {
    await this.#starting?.catch(() => undefined);
    await this.#process?.kill(signal);
  }

  /**
   * Waits until it, if it was started, has ended.
   *
   * @throws {SandboxError} `DeadlineExceeded` when it has not in time.
   */
  async waitEnd(timeoutMs: number): Promise<void> {
    const process = this.#process;
    if (process === undefined || process.over) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), timeoutMs);
    });
    const exit: Exit | undefined = await Promise.race([process.exited, late]);
    clearTimeout(timer);
    if (exit !== undefined) return;
    throw new SandboxError(
      "DeadlineExceeded",
      `cannot end ${this.#label}: its thread ${process.pid} still runs after ${timeoutMs} ms`,
    );
  }

  /** Releases everything. */
  [Symbol.dispose](): void {
    this.#parts.release.dispose();
  }
}

/**
 * Refuses what a wasm guest can never be.
 *
 * @throws {SandboxError} `InvalidArgument`.
 */
export function validateProcess({ label, process, stdio }: GuestRole): void {
  if (stdio.terminal) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot create ${label} with a terminal: WASI has none: create it without`,
    );
  }
  if (process.args.length === 0) {
    throw new SandboxError(
      "InvalidArgument",
      `cannot create ${label} without a program: the image has no entrypoint`,
    );
  }
}

async function createParts(
  context: ContainerContext,
  { spec, files }: GuestPlace,
  role: GuestRole,
  signal: AbortSignal,
): Promise<GuestParts> {
  const { engine, system, observer } = context;
  const action = `cannot create ${role.label}`;
  throwIfAborted(signal, action);
  const begin = performance.now();
  using release = new DisposableStack();
  const module = release.use(
    await loadProgram(system, files.root, role.process, (bytes) => {
      throwIfAborted(signal, action);
      return engine.load(bytes);
    }, knownPrograms(engine, system).of(spec, files.root)),
  );
  throwIfAborted(signal, action);
  const loaded = performance.now();
  observer.phase(role.operation, "module", begin, loaded);
  const stdio = release.use(openStdio(system, role.stdio));
  const opened = performance.now();
  observer.phase(role.operation, "streams", loaded, opened);
  const guest = release.use(
    await engine.instantiate(module, guestOptions(spec, role.process, stdio, files.preopens)),
  );
  observer.phase(role.operation, "instantiate", opened);
  throwIfAborted(signal, action);
  return { guest, stdio, release: release.move() };
}

function guestOptions(
  { resources: { memoryBytes } }: ContainerSpec,
  { args, env, cwd, descriptorsMax = DESCRIPTORS_DEFAULT }: ProcessSpec,
  { stdin, stdout, stderr }: GuestStdio,
  preopens: GuestOptions["preopens"],
): GuestOptions {
  return {
    args,
    // WASI has no working directory: programs that want one read PWD (Go's runtime does).
    env: env.some((entry) => entry.startsWith("PWD=")) ? env : [...env, `PWD=${cwd}`],
    preopens,
    stdin,
    stdout,
    stderr,
    descriptorsMax: Math.min(Math.max(descriptorsMax, 1), DESCRIPTORS_MAX),
    ...(memoryBytes === undefined ? {} : { memoryLimitBytes: memoryBytes }),
  };
}
