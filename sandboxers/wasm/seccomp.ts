/**
 * A container's seccomp profile as a program for the kernel. Profiles are few and shared by many
 * containers (containerd's default is the same for all), so what was compiled is kept.
 *
 * @module
 */

import type { SeccompArgument, SeccompSpec } from "../lifecycle/spec.ts";
import { SeccompCalls } from "./native/seccomp_calls.ts";
import type { System } from "./native/system.ts";

/** Programs that are kept. */
const KEPT_MAX = 16;

/**
 * The calls that a guest's thread makes for itself, whatever its guest does: it must get memory and
 * give it back, wait and be woken, tell of its end, and end. A profile has no say in these.
 */
export const OWN_CALLS: readonly string[] = [
  "brk",
  "clock_gettime",
  "exit",
  "exit_group",
  "futex",
  "getpid",
  "getrandom",
  "gettid",
  "madvise",
  "mmap",
  "mprotect",
  "mremap",
  "munmap",
  "poll",
  "ppoll",
  "restart_syscall",
  "rseq",
  "rt_sigprocmask",
  "rt_sigreturn",
  "sched_yield",
  "set_robust_list",
  "sigaltstack",
  "write",
];

/** Compiles profiles. One for a process. */
export class SeccompFilters {
  readonly #system: System;
  readonly #kept = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();
  /** The same by the profile itself, where it is one that was seen: to spell it out takes longer. */
  readonly #seen = new WeakMap<SeccompSpec, Promise<Uint8Array<ArrayBuffer>>>();
  #calls: SeccompCalls | undefined;

  /**
   * Compiles nothing yet.
   *
   * @param system For the calls of libseccomp.
   */
  constructor(system: System) {
    this.#system = system;
  }

  /**
   * The program of a profile.
   *
   * @param spec The profile.
   * @returns An array of `struct sock_filter`; shared, not to be changed.
   * @throws {SandboxError} `InvalidArgument` for a rule that libseccomp does not take.
   */
  compile(spec: SeccompSpec): Promise<Uint8Array<ArrayBuffer>> {
    const seen = this.#seen.get(spec);
    if (seen !== undefined) return seen;
    const key = JSON.stringify(spec);
    const kept = this.#kept.get(key) ?? this.#compile(spec);
    // The one used last goes to the end; the first is the one to forget.
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    this.#seen.set(spec, kept);
    kept.catch(() => {
      this.#kept.delete(key);
      this.#seen.delete(spec);
    });
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > KEPT_MAX && oldest !== undefined) this.#kept.delete(oldest);
    return kept;
  }

  async #compile(spec: SeccompSpec): Promise<Uint8Array<ArrayBuffer>> {
    this.#calls ??= new SeccompCalls(this.#system);
    using filter = this.#calls.begin(spec.defaultAction);
    for (const name of OWN_CALLS) filter.add(name, { kind: "allow" }, []);
    for (const { names, action, args } of spec.rules) {
      const alternatives = alternativesOf(args);
      for (const name of names) {
        if (OWN_CALLS.includes(name)) continue;
        for (const conditions of alternatives) filter.add(name, action, conditions);
      }
    }
    return await filter.export();
  }
}

/**
 * Conditions on different arguments must all hold. Where an argument has more than one, each
 * condition is a rule by itself: that is what runc makes of such profiles.
 */
function alternativesOf(args: readonly SeccompArgument[]): (readonly SeccompArgument[])[] {
  const different = new Set(args.map(({ index }) => index)).size === args.length;
  return different ? [args] : args.map((argument) => [argument]);
}
