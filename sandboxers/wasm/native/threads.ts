/**
 * Guest threads from the TypeScript side: starts a function on a thread of its own inside a sandbox
 * made of system calls, and tells when it runs and when it has returned. The C side is guest.c; no
 * thread of the host ever waits for a guest.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { ERRNO, errnoName, systemError } from "./errno.ts";
import { type Address, openLibrary } from "./library.ts";
import { CompletionPipe, type CompletionRecord } from "./completion.ts";
import type { System } from "./system.ts";
import { encodeSpec, encodeSteps, type ThreadStep } from "./thread_spec.ts";

const THREAD_SYMBOLS = {
  quasaur_init: { parameters: [], result: "i32" },
  quasaur_guest_start: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "u64" },
  quasaur_guest_interrupt: { parameters: ["u64"], result: "i32" },
  quasaur_guest_is_running: { parameters: ["u64"], result: "i32" },
  quasaur_guest_cpu_ns: { parameters: ["u64"], result: "i64" },
  quasaur_guest_release: { parameters: ["u64"], result: "void" },
  quasaur_sweep: { parameters: [], result: "u32" },
  quasaur_symbol: { parameters: ["buffer"], result: "u64" },
} as const;

/** What every thread gets beside the caller's steps, for messages (quasaur_own_step in guest.h). */
const OWN_STEPS: Readonly<Record<number, string>> = {
  1000: "setting the thread name",
  1001: "setting the nice value",
  1002: "giving up new privileges",
  1003: "denying signals",
  1004: "setting the signal stack",
};

const SWEEP_INTERVAL_MS = 20;
const CLOSE_SWEEPS_MAX = 100;

/** A thread to start. */
export interface ThreadRequest {
  /** Thread name, cut to 15 bytes. */
  readonly name: string;
  /** Nice value, 0 to 19: guests that compute must not starve the event loop. */
  readonly nice: number;
  /** Stack size in bytes, at least 128 KiB. */
  readonly stackBytes: number;
  /** Settings that the thread makes before it runs the function, in order. */
  readonly steps: readonly ThreadStep[];
  /** Address of the function: up to six integer or pointer arguments, an integer or no result. */
  readonly function: Address;
  /** Its arguments. What they point to must live until `ended`. */
  readonly args: readonly Address[];
}

/** What became of a thread's start. */
export type ThreadStart =
  | { readonly kind: "running"; readonly tid: number }
  | { readonly kind: "refused"; readonly error: SandboxError };

/** How a thread ended. */
export interface ThreadEnd {
  /** What the function returned, 64 bits; undefined when it was never called. */
  readonly value: bigint | undefined;
  /** CPU time of the whole run in nanoseconds. */
  readonly cpuNs: number;
}

/** A started thread. */
export interface GuestThread {
  /** Settles when all settings are made and the function is called, or when one failed. */
  readonly started: Promise<ThreadStart>;
  /** Settles when the function has returned, or when a setting failed; never rejects. */
  readonly ended: Promise<ThreadEnd>;
  /**
   * Makes a system call that the function waits in return EINTR.
   *
   * @returns `early`: the settings are still being made; `ended`: the function has returned.
   */
  interrupt(): "sent" | "early" | "ended";
  /** Whether the function has not returned yet; known before `ended` tells. */
  readonly running: boolean;
  /** CPU time so far in nanoseconds; the whole run's after the end. */
  cpuNs(): number;
}

/** Starts guest threads. One for a process. */
export class GuestThreads {
  readonly #c: Deno.DynamicLibrary<typeof THREAD_SYMBOLS>["symbols"];
  readonly #pipe: CompletionPipe;
  readonly #threads = new Map<bigint, Thread>();
  #nextId = 1n;
  #sweepTimer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Binds the functions, installs the interrupt handler, makes the pipe.
   *
   * @param libraryPath See {@link openLibrary}.
   * @param system Used for the pipe that records come in by.
   */
  constructor(libraryPath: string, system: System) {
    this.#c = openLibrary(libraryPath, THREAD_SYMBOLS);
    const errno = this.#c.quasaur_init();
    if (errno !== 0) throw systemError("cannot install the interrupt handler", errno);
    this.#pipe = new CompletionPipe(system, (record) => this.#onRecord(record));
  }

  /** How many threads are running. */
  get size(): number {
    return this.#threads.size;
  }

  /**
   * The address of a function of the engine or the C library.
   *
   * @throws {SandboxError} `FailedPrecondition` when there is none of that name.
   */
  symbol(name: string): Address {
    // SAFETY: the name is NUL-terminated and only read.
    const address = this.#c.quasaur_symbol(new TextEncoder().encode(`${name}\0`));
    if (address !== 0n) return address;
    throw new SandboxError("FailedPrecondition", `cannot find the function "${name}"`);
  }

  /**
   * Starts a thread.
   *
   * @throws {SandboxError} `ResourceExhausted` where the system has no more threads or memory.
   */
  start(request: ThreadRequest): GuestThread {
    const id = this.#nextId++;
    const { steps, data } = encodeSteps(request.steps);
    const spec = encodeSpec({ ...request, id, recordFd: this.#pipe.writeFd, data });
    const error = new Int32Array(1);
    // SAFETY: the C side copies spec, steps and data during the call (layouts: thread_spec.ts) and
    // writes one 32-bit integer to error.
    const guest = this.#c.quasaur_guest_start(spec, steps, data, new Uint8Array(error.buffer));
    if (guest === 0n) throw systemError("cannot start a guest thread", error[0] ?? ERRNO.EINVAL);
    const thread = new Thread(request.steps, {
      // SAFETY: `guest` is valid until it is released, which happens once, with the last record;
      // Thread calls none of these after that.
      interrupt: () => this.#c.quasaur_guest_interrupt(guest),
      isRunning: () => this.#c.quasaur_guest_is_running(guest) === 1,
      cpuNs: () => Number(this.#c.quasaur_guest_cpu_ns(guest)),
      release: () => this.#c.quasaur_guest_release(guest),
    });
    this.#threads.set(id, thread);
    this.#pipe.ref();
    return thread;
  }

  /**
   * Closes the pipe. Call it when no thread is running any more.
   *
   * @throws {SandboxError} `FailedPrecondition` while threads run.
   */
  async close(): Promise<void> {
    if (this.#threads.size > 0) {
      throw new SandboxError(
        "FailedPrecondition",
        `cannot close the guest threads: ${this.#threads.size} still run`,
      );
    }
    clearTimeout(this.#sweepTimer);
    for (let i = 0; i < CLOSE_SWEEPS_MAX && this.#c.quasaur_sweep() > 0; i++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await this.#pipe.close();
  }

  #onRecord(record: CompletionRecord): void {
    const thread = this.#threads.get(record.id);
    if (thread === undefined || !thread.onRecord(record)) return;
    this.#threads.delete(record.id);
    if (this.#threads.size === 0) this.#pipe.unref();
    this.#sweep();
  }

  /** Threads are freed a moment after their last record; usually the next start does it. */
  #sweep(): void {
    if (this.#sweepTimer !== undefined || this.#c.quasaur_sweep() === 0) return;
    const timer = setTimeout(() => {
      this.#sweepTimer = undefined;
      this.#sweep();
    }, SWEEP_INTERVAL_MS);
    timer.unref();
    this.#sweepTimer = timer;
  }
}

/** The calls on one guest of the C side. */
interface GuestCalls {
  interrupt(): number;
  isRunning(): boolean;
  cpuNs(): number;
  release(): void;
}

class Thread implements GuestThread {
  readonly #start = Promise.withResolvers<ThreadStart>();
  readonly #end = Promise.withResolvers<ThreadEnd>();
  readonly #steps: readonly ThreadStep[];
  readonly #calls: GuestCalls;
  #cpuNs: number | undefined;

  constructor(steps: readonly ThreadStep[], calls: GuestCalls) {
    this.#steps = steps;
    this.#calls = calls;
  }

  get started(): Promise<ThreadStart> {
    return this.#start.promise;
  }

  get ended(): Promise<ThreadEnd> {
    return this.#end.promise;
  }

  interrupt(): "sent" | "early" | "ended" {
    if (this.#cpuNs !== undefined) return "ended";
    const errno = this.#calls.interrupt();
    return errno === 0 ? "sent" : errno === ERRNO.EAGAIN ? "early" : "ended";
  }

  get running(): boolean {
    return this.#cpuNs === undefined && this.#calls.isRunning();
  }

  cpuNs(): number {
    return this.#cpuNs ?? this.#calls.cpuNs();
  }

  /** @returns Whether that was the last record of the thread. */
  onRecord(record: CompletionRecord): boolean {
    if (record.kind === "running") {
      this.#start.resolve({ kind: "running", tid: Number(record.value) });
      return false;
    }
    this.#cpuNs = record.cpuNs;
    this.#calls.release();
    if (record.kind === "refused") {
      this.#start.resolve({ kind: "refused", error: this.#refusal(record) });
    }
    const value = record.kind === "returned" ? record.value : undefined;
    this.#end.resolve({ value, cpuNs: record.cpuNs });
    return true;
  }

  #refusal(record: CompletionRecord): SandboxError {
    const errno = Number(record.value);
    const step = this.#steps[record.step]?.label ?? OWN_STEPS[record.step] ?? "a setting";
    return new SandboxError(
      "Internal",
      `cannot enter the guest's sandbox: ${step} failed: ${errnoName(errno)}`,
      { context: { step: record.step, errno } },
    );
  }
}
