/**
 * A process that need not be a child of this one: watching it and ending it without ever meaning
 * another one that has got its number since. A pidfd is what tells them apart; what names a process
 * across restarts of the sandboxer is its number together with the time it was started.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import { ERRNO, systemError } from "../native/errno.ts";
import { openLibrary } from "../native/library.ts";
import { AT_FDCWD, OPEN } from "../native/syscalls.ts";
import type { System } from "../native/system.ts";

const I = "i64";
const SYMBOLS = {
  call: { name: "quasaur_syscall", parameters: [I, I, I, I, I, I, I], result: I },
} as const;

/** The same on all machines (asm-generic/unistd.h). */
const PIDFD_SEND_SIGNAL = 424n;
const PIDFD_OPEN = 434n;

/** How often a process that is ending is looked at, in milliseconds: a little at first, then more. */
const POLL_MS_MIN = 1;
const POLL_MS_MAX = 50;
const STAT_BYTES_MAX = 4_096;
/** Which word of /proc/PID/stat, behind the name, is the start time; see proc_pid_stat(5). */
const START_TIME_WORD = 19;
/** Which one is the state. */
const STATE_WORD = 0;

/** What tells a process from all others since the machine was started. */
export interface ProcessIdentity {
  /** Process id. */
  readonly pid: number;
  /** When it was started, in clock ticks since the boot; as text, as it is only compared. */
  readonly startTime: string;
}

/** Looks processes up. */
export class Processes {
  readonly #c: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  readonly #system: System;

  /**
   * Binds the functions.
   *
   * @param libraryPath See {@link openLibrary}.
   * @param system Reads /proc.
   */
  constructor(libraryPath: string, system: System) {
    this.#c = openLibrary(libraryPath, SYMBOLS);
    this.#system = system;
  }

  /**
   * Takes hold of a process.
   *
   * @param pid Its number.
   * @param startTime When it was started, where that is known: then no other one is taken for it.
   * @returns Undefined when it is not there any more. The caller disposes of it.
   */
  async find(pid: number, startTime?: string): Promise<LiveProcess | undefined> {
    const fd = Number(this.#c.call(PIDFD_OPEN, BigInt(pid), 0n, 0n, 0n, 0n, 0n));
    if (fd === -ERRNO.ESRCH || fd === -ERRNO.EINVAL) return undefined;
    if (fd < 0) throw systemError(`cannot open process ${pid}`, -fd);
    const found = await this.#stat(pid);
    // The descriptor was there first: when the times agree it is of this process and no later one.
    if (found === undefined || (startTime !== undefined && found.startTime !== startTime)) {
      this.#system.close(fd);
      return undefined;
    }
    return new LiveProcess(
      { pid, startTime: found.startTime },
      fd,
      this.#system,
      (signal) =>
        Number(this.#c.call(PIDFD_SEND_SIGNAL, BigInt(fd), BigInt(signal), 0n, 0n, 0n, 0n)),
    );
  }

  /**
   * Whether a thread is one of a process.
   *
   * @param pid The process.
   * @param tid The thread.
   */
  hasThread(pid: number, tid: number): boolean {
    const fd = this.#system.openAt(AT_FDCWD, `/proc/${pid}/task/${tid}`, OPEN.path, 0);
    if (fd < 0) return false;
    this.#system.close(fd);
    return true;
  }

  async #stat(pid: number): Promise<{ readonly startTime: string } | undefined> {
    const fd = this.#system.openAt(AT_FDCWD, `/proc/${pid}/stat`, OPEN.readOnly, 0);
    if (fd < 0) return undefined;
    try {
      const text = new TextDecoder().decode(await this.#system.readFile(fd, STAT_BYTES_MAX));
      return parseStat(text);
    } catch {
      // It ended between opening and reading.
      return undefined;
    } finally {
      this.#system.close(fd);
    }
  }
}

/**
 * Reads what is needed of /proc/PID/stat.
 *
 * @param text The file's text. The name in it may hold anything, spaces and brackets included.
 * @returns Undefined for a process that has ended and whose parent has not taken note.
 */
export function parseStat(text: string): { readonly startTime: string } | undefined {
  const words = text.slice(text.lastIndexOf(")") + 1).trim().split(" ");
  const startTime = words[START_TIME_WORD];
  const state = words[STATE_WORD];
  if (startTime === undefined || state === "Z" || state === "X") return undefined;
  return { startTime };
}

/** A process that was taken hold of. */
export class LiveProcess implements Disposable {
  readonly #fd: number;
  readonly #system: System;
  readonly #send: (signal: number) => number;
  #closed = false;

  /**
   * Wraps a pidfd.
   *
   * @param identity Which process it is.
   * @param fd The pidfd; owned by this object from here on.
   * @param system Polls and closes it.
   * @param send Sends a signal through it; returns 0 or a negative error number.
   */
  constructor(
    readonly identity: ProcessIdentity,
    fd: number,
    system: System,
    send: (signal: number) => number,
  ) {
    this.#fd = fd;
    this.#system = system;
    this.#send = send;
  }

  /** Whether it has not ended. One whose parent has not taken note of its end has ended. */
  get alive(): boolean {
    return !this.#closed && !this.#system.hasInput(this.#fd);
  }

  /**
   * Sends a signal; nothing happens where it has ended.
   *
   * @param signal By number.
   */
  kill(signal: number): void {
    if (this.#closed) return;
    const sent = this.#send(signal);
    if (sent < 0 && sent !== -ERRNO.ESRCH) {
      throw systemError(`cannot send signal ${signal} to process ${this.identity.pid}`, -sent);
    }
  }

  /**
   * Waits for its end.
   *
   * @param timeoutMs How long at most.
   * @returns Whether it has ended.
   */
  async ended(timeoutMs: number): Promise<boolean> {
    const end = performance.now() + timeoutMs;
    for (let pause = POLL_MS_MIN; this.alive; pause = Math.min(pause * 2, POLL_MS_MAX)) {
      if (performance.now() >= end) return false;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    return true;
  }

  /**
   * Ends it by SIGKILL, whatever it does.
   *
   * @throws {SandboxError} `DeadlineExceeded` when it is still there after some time: a process that
   *   waits for a broken disk.
   */
  async end(timeoutMs: number): Promise<void> {
    this.kill(9);
    if (await this.ended(timeoutMs)) return;
    throw new SandboxError(
      "DeadlineExceeded",
      `cannot end process ${this.identity.pid}: it is still there ${timeoutMs} ms after SIGKILL`,
    );
  }

  /** Lets go of it; it goes on as it is. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#system.close(this.#fd);
  }
}
