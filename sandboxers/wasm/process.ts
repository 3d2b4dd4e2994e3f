/**
 * A running guest as a process: thread id, signals, and its end as an exit status.
 *
 * @module
 */

import type { ProcessHandle } from "../lifecycle/driver.ts";
import { type Exit, KILLED_STATUS } from "../lifecycle/spec.ts";
import type { EngineGuest, GuestEnd } from "./engine.ts";
import type { System } from "./native/system.ts";
import { signalAction } from "./signals.ts";
import type { GuestStdio } from "./stdio.ts";

/** Exit status of a trap: as if by SIGABRT, which is how native runtimes end on one. */
export const TRAP_STATUS = 134;
const SIGKILL = 9;

/** How long readers may take to read the last output; see {@link GuestStdio.drained}. */
const DRAIN_LIMITS = { unopenedMs: 5_000, openedMs: 1_000 };
/** The same for a guest that was killed: whoever did that waits for its end, not for its output. */
const KILLED_DRAIN_LIMITS = { unopenedMs: 100, openedMs: 0 };
/** How long the reader of stderr may take to make room for the line about a trap. */
const TRAP_LINE_ATTEMPTS = 50;
const TRAP_LINE_INTERVAL_MS = 10;

/** A guest that was started. */
export class WasmProcess implements ProcessHandle {
  /** Settles when the guest has ended and its streams are closed. */
  readonly exited: Promise<Exit>;
  readonly #guest: EngineGuest;
  readonly #system: System;
  readonly #stdio: GuestStdio;
  readonly #letGo: (tid: number) => Promise<void>;
  #signal: number | undefined;
  #over = false;

  /**
   * Follows a guest to its end.
   *
   * @param pid The thread id.
   * @param guest The guest; started. It is disposed of when it has ended.
   * @param system For the line about a trap.
   * @param stdio Its streams; closed when it has ended.
   * @param letGo Called when it was told to end: lets its thread run where it is frozen.
   */
  constructor(
    readonly pid: number,
    guest: EngineGuest,
    system: System,
    stdio: GuestStdio,
    letGo: (tid: number) => Promise<void>,
  ) {
    this.#guest = guest;
    this.#system = system;
    this.#stdio = stdio;
    this.#letGo = letGo;
    this.exited = this.#finish();
  }

  /** Whether it has ended. */
  get over(): boolean {
    return this.#over;
  }

  /** Does what the signal's default action is: see {@link signalAction}. */
  async kill(signal: number): Promise<void> {
    if (signalAction(signal) === "ignore" || this.#over) return;
    if (!this.#guest.kill()) return;
    this.#signal ??= signal;
    await this.#letGo(this.pid);
  }

  /** Gives up the hold on a FIFO as stdin. */
  closeStdin(): Promise<void> {
    this.#stdio.closeStdin();
    return Promise.resolve();
  }

  async #finish(): Promise<Exit> {
    const end = await this.#guest.ended;
    const exit = toExit(end, this.#signal ?? SIGKILL);
    if (end.kind === "trap") await this.#writeTrap(end.message);
    this.#over = true;
    await this.#stdio.drained(end.kind === "killed" ? KILLED_DRAIN_LIMITS : DRAIN_LIMITS);
    this.#stdio[Symbol.dispose]();
    this.#guest[Symbol.dispose]();
    return exit;
  }

  /** Tells the person who reads the logs. A reader that does not read must not hold up the end. */
  async #writeTrap(message: string): Promise<void> {
    const line = new TextEncoder().encode(`wasm trap: ${message}\n`);
    for (let i = 0; i < TRAP_LINE_ATTEMPTS; i++) {
      if (this.#system.tryWrite(this.#stdio.stderr, line)) return;
      await new Promise((resolve) => setTimeout(resolve, TRAP_LINE_INTERVAL_MS));
    }
  }
}

/**
 * A guest's end as an exit.
 *
 * @param end How it ended.
 * @param signal The signal that it was killed by, where it was.
 */
export function toExit(end: GuestEnd, signal: number): Exit {
  const at = Date.now();
  switch (end.kind) {
    case "exit":
      return { status: end.code & 0xff, at, reason: "exited" };
    case "trap":
      return { status: TRAP_STATUS, at, reason: "trap", message: `wasm trap: ${end.message}` };
    case "oom":
      return { status: KILLED_STATUS, at, reason: "oom", message: end.message };
    case "killed":
      return { status: 128 + signal, at, reason: "signaled" };
  }
}
