/**
 * What a pod process does to itself once: what the launcher cannot do for it, because executing a
 * program undoes it.
 *
 * @module
 */

import { openLibrary } from "../native/library.ts";
import { AT_FDCWD, OPEN, SYSCALL } from "../native/syscalls.ts";
import { cString, type System } from "../native/system.ts";

const I = "i64";
const SYMBOLS = {
  call: { name: "quasaur_syscall", parameters: [I, I, I, I, I, I, I], result: I },
  withText: { name: "quasaur_syscall", parameters: [I, I, "buffer", I, I, I, I], result: I },
} as const;

const PR_SET_DUMPABLE = 4n;
const PR_SET_NAME = 15n;
const DUP3 = Deno.build.arch === "aarch64" ? 24n : 292n;
/** Longest name of a thread, in bytes. */
const NAME_BYTES_MAX = 15;

/** Changes this process. */
export class OwnProcess {
  readonly #c: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  readonly #system: System;

  /**
   * Binds the functions.
   *
   * @param system Opens and closes.
   */
  constructor(system: System) {
    this.#c = openLibrary(system.libraryPath, SYMBOLS);
    this.#system = system;
  }

  /**
   * Names the process for people who look at a list of them.
   *
   * @param name Cut to 15 bytes.
   */
  setName(name: string): void {
    // SAFETY: prctl copies a NUL-terminated text of at most 16 bytes.
    this.#c.withText(
      SYSCALL.prctl,
      PR_SET_NAME,
      cString(name.slice(0, NAME_BYTES_MAX)),
      0n,
      0n,
      0n,
      0n,
    );
  }

  /** Forbids other processes, but for fully privileged ones, to look into this one or trace it. */
  refuseTracing(): void {
    this.#c.call(SYSCALL.prctl, PR_SET_DUMPABLE, 0n, 0n, 0n, 0n, 0n);
  }

  /** Lets go of the standard streams, which end with the process that started this one. */
  leaveStandardStreams(): void {
    const fd = this.#system.openAt(AT_FDCWD, "/dev/null", OPEN.readWrite, 0);
    if (fd < 0) return;
    for (const stream of [0n, 1n, 2n]) {
      this.#c.call(DUP3, BigInt(fd), stream, 0n, 0n, 0n, 0n);
    }
    this.#system.close(fd);
  }
}
