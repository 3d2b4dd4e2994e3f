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
import { assertFilter } from "./thread_filter.ts";
import { appendFilter, encodeSpec, encodeSteps, type ThreadStep } from "./thread_spec.ts";

const THREAD_SYMBOLS = {
  quasaur_init: { parameters: [], result: "i32" },
  quasaur_guest_start: { parameters: ["buffer", "buffer", "buffer", "buffer"], result: "u64" },
  quasaur_guest_await: { parameters: ["u64", "u32"], result: "i32" },
  quasaur_guest_interrupt: { parameters: ["u64"], result: "i32" },
  quasaur_guest_is_running: { parameters: ["u64"], result: "i32" },
  quasaur_guest_cpu_ns: { parameters: ["u64"], result: "i64" },
  quasaur_guest_heap_bytes: { parameters: ["u64"], result: "u64" },
  quasaur_guest_descriptors: { parameters: ["u64"], result: "u32" },
  quasaur_pin_fault_handlers: { parameters: [], result: "i32" },
  quasaur_add_code: { parameters: ["buffer"], result: "i32" },
  quasaur_remove_code: { parameters: ["i32"], result: "i32" },
  quasaur_guest_release: { parameters: ["u64"], result: "void" },
  quasaur_sweep: { parameters: [], result: "u32" },
  quasaur_symbol: { parameters: ["buffer"], result: "u64" },
} as const;

/** What every thread gets beside the caller's steps, for messages (quasaur_own_step in guest.h). */
const OWN_STEPS: Readonly<Record<number, string>> = {
  1000: "setting the thread name",
  1001: "setting the nice value",
  1004: "setting the signal stack",
};
/** In its place: there is no thread. */
const STEP_THREAD = 1005;

/** Least and most bytes of a guard. */
const GUARD_BYTES_MIN = 65_536;
const GUARD_BYTES_MAX = 1_073_741_824;
/** A process cannot have more: 2^31 - 1, the largest descriptor there is. */
const DESCRIPTORS_MAX = 2_147_483_647;

/** The C side's answer to a filter that {@link assertFilter} would refuse too. */
const ENOEXEC = 8;

/**
 * How long a start looks for its thread before it leaves that to the event loop, in microseconds.
 * Most threads are there in half of it; a turn of the event loop takes longer.
 */
const AWAIT_US = 150;
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
  /**
   * Unmapped bytes below the stack (default 1 MiB, most 1 GiB; they cost addresses only). Compiled
   * code does not look where a big frame ends: the guard must be larger than any frame.
   */
  readonly guardBytes?: number;
  /** Settings that the thread makes before it runs the function, in order. */
  readonly steps: readonly ThreadStep[];
  /** Address of the function: up to six integer or pointer arguments, an integer or no result. */
  readonly function: Address;
  /** Its arguments. What they point to must live until `ended`. */
  readonly args: readonly Address[];
  /**
   * A seccomp filter as an array of `struct sock_filter`, in force beside the one that all threads
   * have; undefined for none. It may allow calls, fail them and log them. It is not asked about the
   * few calls without which a thread could not end or an engine would end the process (memory,
   * waiting for locks, time, random bytes), nor about the settings that no guest may make.
   */
  readonly filter?: Uint8Array;
  /** Most descriptors that the thread may hold of those it makes; undefined for no bound. */
  readonly descriptorsMax?: number;
  /**
   * Most bytes of memory that the thread may take itself (see {@link GuestThread.heapBytes});
   * undefined for no bound. Beyond it the thread waits, and {@link ThreadRequest.onExceeded} is
   * called, whose part it is to end it.
   */
  readonly heapBytesMax?: number;
  /** Called at most once, when the thread is beyond a bound. It must not throw. */
  readonly onExceeded?: (what: "memory") => void;
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
  /** Whether the last fault of its compiled code, where there was one, was at the stack's end. */
  readonly stackExhausted: boolean;
}

/** A started thread. */
export interface GuestThread {
  /** Settles when all settings are made and the function is called, or when one failed. */
  readonly started: Promise<ThreadStart>;
  /** Settles when the function has returned, or when a setting failed; never rejects. */
  readonly ended: Promise<ThreadEnd>;
  /**
   * Asks the function to end: a system call that it waits in returns EINTR, and registered code
   * ({@link GuestThreads.addCode}) is left by the engine's way out of faults. To be repeated until
   * `ended`: in between two calls there is nothing to interrupt.
   *
   * @returns `early`: the settings are still being made; `ended`: the function has returned.
   */
  interrupt(): "sent" | "early" | "ended";
  /** Whether the function has not returned yet; known before `ended` tells. */
  readonly running: boolean;
  /** CPU time so far in nanoseconds; the whole run's after the end. */
  cpuNs(): number;
  /**
   * Memory in bytes that the thread has made writable and not given back: what the engine and the
   * C library allocate on it, an interpreter's stack above all. Linear memory that a guest grows is
   * not in it. 0 after the end.
   */
  heapBytes(): number;
  /** Descriptors that the thread has made and not closed; 0 after the end. */
  descriptors(): number;
}

/** Starts guest threads. One for a process. */
export class GuestThreads {
  readonly #c: Deno.DynamicLibrary<typeof THREAD_SYMBOLS>["symbols"];
  readonly #pipe: CompletionPipe;
  readonly #threads = new Map<bigint, Thread>();
  #nextId = 1n;
  #sweepTimer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Binds the functions, installs the signal handlers, makes the pipe. Made before the engine runs
   * compiled code for the first time: the handlers of faults that are there then are the host's.
   *
   * @param libraryPath See {@link openLibrary}.
   * @param system Used for the pipe that records come in by.
   */
  constructor(libraryPath: string, system: System) {
    this.#c = openLibrary(libraryPath, THREAD_SYMBOLS);
    const errno = this.#c.quasaur_init();
    if (errno !== 0) throw systemError("cannot prepare the process for guests", errno);
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
   * Makes the engine's fault handlers stay, and ours stand before them: faults of compiled guests go
   * to the engine, all others to the handlers of the host. Called once, while a compiled guest runs
   * that will never end, and before any other one runs.
   *
   * @throws {SandboxError} `FailedPrecondition` when the engine has not installed its handlers.
   */
  pinFaultHandlers(): void {
    const errno = this.#c.quasaur_pin_fault_handlers();
    if (errno === 0) return;
    if (errno !== ERRNO.ENOENT) throw systemError("cannot pin the fault handlers", errno);
    throw new SandboxError(
      "FailedPrecondition",
      "cannot pin the fault handlers: the engine has not installed its own: " +
        "expected a compiled guest that runs",
    );
  }

  /** Whether {@link GuestThread.interrupt} ends code that computes, on this machine. */
  canInterruptCode(): boolean {
    return Deno.build.arch === "x86_64" || Deno.build.arch === "aarch64";
  }

  /**
   * Makes the code of a loaded shared object known as that of compiled guests: only there do faults
   * and interrupts end a guest. Its calls into the engine check the stack from here on, so it is
   * called before the first guest of it runs.
   *
   * @param path As it was loaded by.
   * @returns A number for {@link removeCode}.
   * @throws {SandboxError} `NotFound` when it is not loaded, `ResourceExhausted` when there is no
   *   room for more (1,024 segments).
   */
  addCode(path: string): number {
    // SAFETY: the path is NUL-terminated and only read.
    const number = this.#c.quasaur_add_code(new TextEncoder().encode(`${path}\0`));
    if (number > 0) return number;
    throw systemError(`cannot register the compiled code "${path}"`, -number);
  }

  /**
   * Forgets code, before it is unloaded. No guest of it may run any more.
   *
   * @param code What {@link addCode} returned.
   * @throws {SandboxError} `NotFound` when it is not registered.
   */
  removeCode(code: number): void {
    const errno = this.#c.quasaur_remove_code(code);
    if (errno !== 0) throw systemError(`cannot forget the compiled code ${code}`, errno);
  }

  /**
   * Starts a thread.
   *
   * @throws {SandboxError} `ResourceExhausted` where the system has no more memory;
   *   `InvalidArgument` for a filter or bound that cannot be used.
   */
  start(request: ThreadRequest): GuestThread {
    assertBounds(request);
    const id = this.#nextId++;
    const { steps, data: stepData } = encodeSteps(request.steps);
    const { filter, ...fields } = request;
    const { data, place } = filter === undefined
      ? { data: stepData, place: undefined }
      : appendFilter(stepData, filter);
    const spec = encodeSpec({
      ...fields,
      id,
      recordFd: this.#pipe.writeFd,
      data,
      ...place === undefined ? {} : { filter: place },
    });
    const error = new Int32Array(1);
    // SAFETY: the C side copies spec, steps and data during the call (layouts: thread_spec.ts) and
    // writes one 32-bit integer to error.
    const guest = this.#c.quasaur_guest_start(spec, steps, data, new Uint8Array(error.buffer));
    if (guest === 0n) throw startError(error[0] ?? ERRNO.EINVAL, filter !== undefined);
    const thread = new Thread(request, {
      // SAFETY: `guest` is valid until it is released, which happens once, with the last record;
      // Thread calls none of these after that.
      interrupt: () => this.#c.quasaur_guest_interrupt(guest),
      isRunning: () => this.#c.quasaur_guest_is_running(guest) === 1,
      cpuNs: () => Number(this.#c.quasaur_guest_cpu_ns(guest)),
      heapBytes: () => Number(this.#c.quasaur_guest_heap_bytes(guest)),
      descriptors: () => this.#c.quasaur_guest_descriptors(guest),
      release: () => this.#c.quasaur_guest_release(guest),
    });
    this.#threads.set(id, thread);
    this.#pipe.ref();
    // SAFETY: as above: the last record has not been read yet.
    const tid = this.#c.quasaur_guest_await(guest, AWAIT_US);
    if (tid > 0) thread.onRunning(tid);
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
  heapBytes(): number;
  descriptors(): number;
  release(): void;
}

class Thread implements GuestThread {
  readonly #start = Promise.withResolvers<ThreadStart>();
  readonly #end = Promise.withResolvers<ThreadEnd>();
  readonly #steps: readonly ThreadStep[];
  readonly #onExceeded: ThreadRequest["onExceeded"];
  readonly #calls: GuestCalls;
  #cpuNs: number | undefined;

  constructor(request: ThreadRequest, calls: GuestCalls) {
    this.#steps = request.steps;
    this.#onExceeded = request.onExceeded;
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

  heapBytes(): number {
    return this.#cpuNs === undefined ? this.#calls.heapBytes() : 0;
  }

  descriptors(): number {
    return this.#cpuNs === undefined ? this.#calls.descriptors() : 0;
  }

  /** Told once, or a second time by the record. */
  onRunning(tid: number): void {
    this.#start.resolve({ kind: "running", tid });
  }

  /** @returns Whether that was the last record of the thread. */
  onRecord(record: CompletionRecord): boolean {
    if (record.kind === "exceeded") {
      this.#onExceeded?.("memory");
      return false;
    }
    if (record.kind === "running") {
      this.onRunning(Number(record.value));
      return false;
    }
    this.#cpuNs = record.cpuNs;
    this.#calls.release();
    if (record.kind === "refused") {
      this.#start.resolve({ kind: "refused", error: this.#refusal(record) });
    }
    const value = record.kind === "returned" ? record.value : undefined;
    const stackExhausted = record.kind === "returned" && record.step === 1;
    this.#end.resolve({ value, cpuNs: record.cpuNs, stackExhausted });
    return true;
  }

  #refusal(record: CompletionRecord): SandboxError {
    const errno = Number(record.value);
    if (record.step === STEP_THREAD) return systemError("cannot start a guest thread", errno);
    const step = this.#steps[record.step]?.label ?? OWN_STEPS[record.step] ?? "a setting";
    return new SandboxError(
      "Internal",
      `cannot enter the guest's sandbox: ${step} failed: ${errnoName(errno)}`,
      { context: { step: record.step, errno } },
    );
  }
}

/** What the C side would refuse without saying why. */
function assertBounds(request: ThreadRequest): void {
  if (request.filter !== undefined) assertFilter(request.filter);
  assertBound("guard of a stack", request.guardBytes, GUARD_BYTES_MIN, GUARD_BYTES_MAX);
  assertBound("bound on descriptors", request.descriptorsMax, 0, DESCRIPTORS_MAX);
  assertBound("bound on memory", request.heapBytesMax, 0, Number.MAX_SAFE_INTEGER);
}

function assertBound(what: string, value: number | undefined, min: number, max: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= min && value <= max)) return;
  throw new SandboxError(
    "InvalidArgument",
    `cannot start a guest thread: the ${what} is ${value}, expected ${min} to ${max}`,
  );
}

function startError(errno: number, filtered: boolean): SandboxError {
  if (filtered && (errno === ERRNO.EINVAL || errno === ENOEXEC)) {
    return new SandboxError(
      "InvalidArgument",
      "cannot use the seccomp filter of a guest: the kernel refuses it: a jump or load is not sound",
      { context: { errno } },
    );
  }
  return systemError("cannot start a guest thread", errno);
}
