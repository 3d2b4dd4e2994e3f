/**
 * Looks at and interrupts a guest's thread from outside, by its id.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { openLibrary } from "../native/library.ts";
import { systemError } from "../native/errno.ts";

const SYMBOLS = {
  quasaur_init: { parameters: [], result: "i32" },
  integers: {
    name: "quasaur_syscall",
    parameters: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"],
    result: "i64",
  },
  time: {
    name: "quasaur_syscall",
    parameters: ["i64", "i64", "buffer", "i64", "i64", "i64", "i64"],
    result: "i64",
  },
} as const;

const AARCH64 = Deno.build.arch === "aarch64";
const TGKILL = AARCH64 ? 131n : 234n;
const CLOCK_GETTIME = AARCH64 ? 113n : 228n;
const FCNTL = AARCH64 ? 25n : 72n;
const F_DUPFD_CLOEXEC = 1030n;
/** The interrupt signal of guest.c: SIGRTMIN + 5, where the C library keeps the first two. */
const INTERRUPT_SIGNAL = 39n;

/** Calls on threads of this process. */
export class ThreadControl {
  readonly #c: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

  /**
   * Binds the functions and installs the handler of the interrupt signal.
   *
   * @param libraryPath See {@link openLibrary}.
   * @throws {SandboxError} `FailedPrecondition` when the guest library is missing.
   */
  constructor(libraryPath: string) {
    this.#c = openLibrary(libraryPath, SYMBOLS);
    const errno = this.#c.quasaur_init();
    if (errno !== 0) throw systemError("cannot install the interrupt handler", errno);
  }

  /** Makes a system call that a thread waits in return EINTR. */
  interrupt(threadId: number): void {
    this.#kill(threadId, INTERRUPT_SIGNAL);
  }

  /** Whether a thread of this id exists in this process. */
  exists(threadId: number): boolean {
    return this.#kill(threadId, 0n) === 0n;
  }

  /** CPU time of a thread in nanoseconds; undefined when it is gone. */
  cpuNs(threadId: number): bigint | undefined {
    const time = new BigInt64Array(2);
    // A thread's CPU clock by its id: CPUCLOCK_PERTHREAD | CPUCLOCK_SCHED, linux/posix-timers.h.
    const clock = BigInt((~threadId << 3) | 6);
    const bytes = new Uint8Array(time.buffer);
    // SAFETY: clock_gettime(2) writes one struct timespec.
    const result = this.#c.time(CLOCK_GETTIME, clock, bytes, 0n, 0n, 0n, 0n);
    if (result < 0n) return undefined;
    return (time[0] ?? 0n) * 1_000_000_000n + (time[1] ?? 0n);
  }

  /**
   * A second descriptor of what a first one refers to, close-on-exec.
   *
   * @throws {SandboxError} `ResourceExhausted` when there are too many.
   */
  duplicate(fd: number): number {
    const result = this.#c.integers(FCNTL, BigInt(fd), F_DUPFD_CLOEXEC, 3n, 0n, 0n, 0n);
    if (result < 0n) throw systemError(`cannot duplicate descriptor ${fd}`, Number(-result));
    return Number(result);
  }

  #kill(threadId: number, signal: bigint): bigint {
    if (threadId <= 0) throw new SandboxError("Internal", `cannot signal thread ${threadId}`);
    return this.#c.integers(TGKILL, BigInt(Deno.pid), BigInt(threadId), signal, 0n, 0n, 0n);
  }
}
