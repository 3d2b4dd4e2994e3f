/**
 * Guests: a module in a Deno worker, which is a V8 isolate on a thread of its own.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type {
  EngineGuest,
  GuestEnd,
  GuestMemory,
  GuestOptions,
  GuestThreadOptions,
} from "../engine.ts";
import { errnoName } from "../native/errno.ts";
import type { System } from "../native/system.ts";
import type { RunMessage, ThreadMessage } from "./messages.ts";
import { SharedState } from "./shared_state.ts";
import type { ThreadControl } from "./thread_control.ts";
import type { OpenedPreopen } from "./wasi/descriptors.ts";

/** What guests share. */
export interface GuestContext {
  /** The guest library. */
  readonly libraryPath: string;
  /** System calls. */
  readonly system: System;
  /** Looks at and interrupts threads. */
  readonly threads: ThreadControl;
  /** Nice value of guests' threads. */
  readonly guestNice: number;
}

/** What a worker costs beside linear memory, measured with idle ones. */
const ENGINE_BYTES = 12_058_624;
/** Descriptors that a guest may open where nobody says how many. */
const DESCRIPTORS_MAX = 1_024;

/** Pause between two attempts to make a guest end, doubled each time up to the second number. */
const KILL_INTERVAL_MS = 1;
const KILL_INTERVAL_MAX_MS = 50;
/** How long a worker that has nothing more to do may take to be gone. */
const GONE_INTERVAL_MS = 2;
const GONE_ATTEMPTS_MAX = 2_500;

/**
 * The thread's program: beside the source, or beside the bundle that this is part of. Both are
 * written as `new URL` so that tools which look for files find them.
 */
const WORKER_URL: URL = import.meta.url.endsWith(".ts")
  ? new URL("./worker.ts", import.meta.url)
  : new URL("./quasaur-v8-worker.js", import.meta.url);

/** A guest of V8. */
export class V8Guest implements EngineGuest {
  readonly #context: GuestContext;
  readonly #module: WebAssembly.Module;
  readonly #options: GuestOptions;
  readonly #preopens: readonly OpenedPreopen[];
  readonly #release: DisposableStack;
  readonly #end = Promise.withResolvers<GuestEnd>();
  #run: Run | undefined;
  #ended = false;

  private constructor(
    context: GuestContext,
    module: WebAssembly.Module,
    options: GuestOptions,
    preopens: readonly OpenedPreopen[],
    release: DisposableStack,
  ) {
    this.#context = context;
    this.#module = module;
    this.#options = options;
    this.#preopens = preopens;
    this.#release = release;
  }

  /**
   * Makes a guest, ready to run; its thread is made when it starts.
   *
   * @param context What guests share.
   * @param module Compiled for the guest's memory limit.
   * @param options What the guest gets.
   * @param onDispose Called once, when the guest is disposed of and its thread is gone.
   * @throws {SandboxError} `InvalidArgument` for options that no guest can have.
   */
  static create(
    context: GuestContext,
    module: WebAssembly.Module,
    options: GuestOptions,
    onDispose: () => void,
  ): V8Guest {
    assertOptions(context.system, options);
    using release = new DisposableStack();
    const preopens = options.preopens.map(({ guestPath, fd, readonly }): OpenedPreopen => {
      const own = context.threads.duplicate(fd);
      release.adopt(own, (open) => context.system.close(open));
      return { guestPath, fd: own, readonly };
    });
    release.defer(onDispose);
    return new V8Guest(context, module, options, preopens, release.move());
  }

  /** Settles when a started guest has ended. */
  get ended(): Promise<GuestEnd> {
    return this.#end.promise;
  }

  /** Runs it on a thread of its own. */
  async start(options: GuestThreadOptions): Promise<number> {
    if (this.#run !== undefined) throw new SandboxError("Internal", "The guest is started twice");
    const run = new Run(this.#context);
    this.#run = run;
    const { args, env, stdin, stdout, stderr, descriptorsMax = DESCRIPTORS_MAX } = this.#options;
    try {
      const threadId = await run.start({
        libraryPath: this.#context.libraryPath,
        module: this.#module,
        args,
        env,
        preopens: this.#preopens,
        descriptorsMax,
        stdio: [stdin, stdout, stderr],
        state: run.state.buffers,
        name: options.name,
        nice: this.#context.guestNice,
        steps: options.steps,
        filter: options.filter,
      });
      run.ended.then((end) => {
        this.#ended = true;
        this.#end.resolve(end);
      });
      return threadId;
    } catch (error) {
      this.#run = undefined;
      throw error;
    }
  }

  /** Makes it end; see {@link EngineGuest.kill}. */
  kill(): boolean {
    return this.#run?.kill() ?? false;
  }

  /** CPU time of its thread since it began to run, in nanoseconds. */
  cpuNs(): number {
    return this.#run?.cpuNs() ?? 0;
  }

  /** Its linear memory when it last called a WASI function, and what a worker costs. */
  memory(): GuestMemory {
    if (this.#release.disposed) return { linearBytes: 0, engineBytes: 0 };
    if (this.#run === undefined) return { linearBytes: 0, engineBytes: 0 };
    return { linearBytes: this.#run.state.linearBytes, engineBytes: ENGINE_BYTES };
  }

  /** Settles when its thread is gone, which may be a little after its end. */
  get gone(): Promise<void> {
    return this.#run?.gone ?? Promise.resolve();
  }

  /** Releases what it holds. */
  [Symbol.dispose](): void {
    if (this.#run !== undefined && !this.#ended) {
      throw new SandboxError("Internal", "cannot dispose of a guest that runs");
    }
    this.#release.dispose();
  }
}

/** One thread from its start to its end. */
class Run {
  readonly state = new SharedState();
  readonly #context: GuestContext;
  readonly #start = Promise.withResolvers<number>();
  readonly #end = Promise.withResolvers<GuestEnd>();
  readonly #gone = Promise.withResolvers<void>();
  #worker: Worker | undefined;
  /** Its first word stops a guest that computes. */
  #stop: Int32Array<SharedArrayBuffer> | undefined;
  #killTimer: ReturnType<typeof setTimeout> | undefined;
  #phase: "starting" | "running" | "over" = "starting";
  #cpuNs = 0;

  constructor(context: GuestContext) {
    this.#context = context;
  }

  get ended(): Promise<GuestEnd> {
    return this.#end.promise;
  }

  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  /** The thread's id, when the guest runs. */
  start(request: RunMessage): Promise<number> {
    const worker = new Worker(WORKER_URL, { type: "module", name: request.name });
    this.#worker = worker;
    worker.onmessage = ({ data }: MessageEvent<ThreadMessage>) => this.#onMessage(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#onFailure(event.message);
    };
    worker.postMessage(request);
    return this.#start.promise;
  }

  kill(): boolean {
    if (this.#phase !== "running") return false;
    if (this.state.stopped) return true;
    this.state.stop();
    if (this.#stop !== undefined) Atomics.store(this.#stop, 0, 1);
    this.#press(KILL_INTERVAL_MS);
    return true;
  }

  cpuNs(): number {
    if (this.#phase === "running") this.#cpuNs = Math.max(this.#cpuNs, this.#measure());
    return this.#cpuNs;
  }

  #measure(): number {
    const { cpuBeginNs, cpuEndNs, threadId } = this.state;
    const now = cpuEndNs > 0n ? cpuEndNs : this.#context.threads.cpuNs(threadId);
    return now === undefined ? 0 : Number(now - cpuBeginNs);
  }

  /** A guest that waits in a system call is interrupted until it has come out. */
  #press(intervalMs: number): void {
    if (this.#phase !== "running") return;
    this.#context.threads.interrupt(this.state.threadId);
    this.#killTimer = setTimeout(
      () => this.#press(Math.min(intervalMs * 2, KILL_INTERVAL_MAX_MS)),
      intervalMs,
    );
  }

  #onMessage(message: ThreadMessage): void {
    switch (message.kind) {
      case "running":
        this.#phase = "running";
        this.#stop = new Int32Array(message.stop, 0, 1);
        return this.#start.resolve(message.threadId);
      case "refused":
        return this.#refuse(
          new SandboxError(
            "Internal",
            `cannot enter the guest's sandbox: ${message.label} failed: ` +
              errnoName(message.errno),
          ),
        );
      case "invalid":
        return this.#refuse(
          new SandboxError(
            message.outOfMemory ? "ResourceExhausted" : "InvalidArgument",
            `cannot instantiate the WebAssembly module: ${message.reason}`,
          ),
        );
      case "ended":
        return this.#finish(message.end);
    }
  }

  #onFailure(reason: string): void {
    if (this.#phase === "starting") {
      this.#refuse(new SandboxError("Internal", `cannot start the guest's thread: ${reason}`));
    } else {
      this.#finish({ kind: "trap", message: reason });
    }
  }

  #refuse(error: SandboxError): void {
    if (this.#phase !== "starting") return;
    this.#phase = "over";
    this.#letGo();
    // Whoever tries again finds the thread gone.
    this.#gone.promise.then(() => this.#start.reject(error));
  }

  #finish(end: GuestEnd): void {
    if (this.#phase !== "running") return;
    this.#cpuNs = Math.max(this.#cpuNs, this.#measure());
    this.#phase = "over";
    clearTimeout(this.#killTimer);
    this.#letGo();
    this.#end.resolve(end);
  }

  /** Ends the worker, and waits for its thread without holding anybody up. */
  async #letGo(): Promise<void> {
    this.#worker?.terminate();
    const { threadId } = this.state;
    for (let i = 0; i < GONE_ATTEMPTS_MAX && threadId !== 0; i++) {
      if (!this.#context.threads.exists(threadId)) break;
      await new Promise((resolve) => setTimeout(resolve, GONE_INTERVAL_MS));
    }
    this.#gone.resolve();
  }
}

/** What the thread would find out too late. */
function assertOptions(system: System, options: GuestOptions): void {
  for (const name of ["stdin", "stdout", "stderr"] as const) {
    if (system.isOpen(options[name])) continue;
    throw new SandboxError(
      "InvalidArgument",
      `cannot make a guest: ${name} is not an open descriptor: ${options[name]}`,
    );
  }
  if ([...options.args, ...options.env].some((string) => string.includes("\0"))) {
    throw new SandboxError("InvalidArgument", "cannot pass a string that holds a NUL character");
  }
}
