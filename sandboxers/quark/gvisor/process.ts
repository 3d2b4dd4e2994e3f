/**
 * A process in a gVisor sandbox, as the lifecycle sees it. Calls go to the sandbox's control socket;
 * so does the wait for its end.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";
import type { ProcessHandle } from "../../lifecycle/driver.ts";
import { type Exit, KILLED_STATUS, LOST_STATUS } from "../../lifecycle/spec.ts";
import {
  type SentryControl,
  type SentryExit,
  type SignalTarget,
  waitPidExit,
  waitPidRequest,
} from "./control.ts";
import type { ProcessStdio } from "./process_stdio.ts";

const SIGKILL = 9;
const SIGWINCH = 28;
/**
 * How long the sandbox may take to take note of a kill, and a killed process to end before its pod is
 * paused again, in milliseconds.
 */
const KILLED_MS = 5_000;
/** How long a wait that failed is put off, in milliseconds, while the sandbox lives. */
const RETRY_MS = 200;

/** The pod of a process, as far as that needs it. */
export interface ProcessPod {
  /** The process id of the sandbox. */
  readonly pid: number;
  /** Its control socket. */
  readonly control: SentryControl;
  /** Settles when the sandbox has ended, with how. */
  readonly ended: Promise<Exit>;
  /** Whether some container of it is paused, and with it all of them. */
  readonly isPaused: boolean;
  /** Does something that needs running processes, while some containers may be paused. */
  whileRunning<T>(work: () => Promise<T>): Promise<T>;
  /** Kills a sandbox that nothing can be done with any more; all its processes end with it. */
  giveUp(reason: string): Promise<void>;
  /** Whether the host has killed something in it for want of memory, since this was asked last. */
  ranOutOfMemory(): Promise<boolean>;
  /** Aborted when nobody of this process is to hear of ends any more. */
  readonly leaving: AbortSignal;
}

/** A process. */
export class GvisorProcess implements ProcessHandle {
  readonly #pod: ProcessPod;
  readonly #stdio: ProcessStdio;
  readonly #exit = Promise.withResolvers<Exit>();
  readonly #given = new AbortController();
  readonly #ending = Promise.withResolvers<void>();
  #over = false;
  /** Whether somebody has asked for its end. */
  #killed = false;

  /**
   * Waits for the end of a process that runs, or has ended.
   *
   * @param pod Its pod.
   * @param container Its container.
   * @param id Its id in the sandbox; 0 for the container's init process.
   * @param stdio Its streams; the new object owns them.
   * @param onEnd Called when it has ended, before anybody hears of it.
   */
  constructor(
    pod: ProcessPod,
    readonly container: string,
    readonly id: number,
    stdio: ProcessStdio,
    onEnd: () => Promise<void> = () => Promise.resolve(),
  ) {
    this.#pod = pod;
    this.#stdio = stdio;
    if (id !== 0) stdio.keepExit(pod.control.path, waitPidRequest(container, id));
    void this.#supervise(onEnd);
  }

  /** The process id of its sandbox: ids inside of it mean nothing on the host. */
  get pid(): number {
    return this.#pod.pid;
  }

  /** Settles when it has ended and its output was written. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** Settles when it has ended, whatever becomes of its output. */
  get ending(): Promise<void> {
    return this.#ending.promise;
  }

  /** Whether it has ended. */
  get over(): boolean {
    return this.#over;
  }

  /** Sends a signal. */
  async kill(signal: number): Promise<void> {
    if (this.#over) return;
    const to = this.id === 0 ? "init" : { pid: this.id };
    if (signal !== SIGKILL) return await this.#signal(signal, to);
    this.#killed = true;
    try {
      if (!this.#pod.isPaused) return await this.#signal(signal, to, KILLED_MS);
      // A paused process could not end.
      await this.#pod.whileRunning(async () => {
        await this.#signal(signal, to, KILLED_MS);
        await Promise.race([this.#ending.promise, pause(KILLED_MS)]);
      });
    } catch (error) {
      if (SandboxError.from(error).code !== "DeadlineExceeded") throw error;
      await this.#pod.giveUp("it does not answer");
    }
  }

  /** Sets the size of its terminal. */
  async resize(columns: number, rows: number): Promise<void> {
    if (this.#over) return;
    await this.#stdio.resize(columns, rows);
    // The sentry does not hear of the host's terminal.
    await this.#signal(SIGWINCH, { foregroundOf: this.id }).catch(() => undefined);
  }

  /** Lets it read the end of its input. */
  async closeStdin(): Promise<void> {
    await this.#stdio.closeStdin();
  }

  /** Takes note that its container is deleted, and nobody can wait for it any more. */
  async lost(message: string): Promise<void> {
    if (!this.#over) {
      const exit: Exit = { status: KILLED_STATUS, at: Date.now(), reason: "lost", message };
      await this.#end(exit, "killed");
    }
    await this.#exit.promise;
  }

  async #signal(signal: number, to: SignalTarget, timeoutMs?: number): Promise<void> {
    try {
      await this.#pod.control.signal(this.container, signal, to, timeoutMs);
    } catch (error) {
      // It may be ending this very moment.
      const { code } = SandboxError.from(error);
      if (!this.#over && code !== "NotFound" && code !== "Unavailable") throw error;
    }
  }

  async #supervise(onEnd: () => Promise<void>): Promise<void> {
    const podEnd = this.#pod.ended.then((exit) => endedWith(exit));
    const exit = await Promise.race([this.#wait(), podEnd]);
    if (exit === undefined || this.#over) return;
    this.#over = true;
    this.#ending.resolve();
    await onEnd().catch(() => undefined);
    await this.#end(exit, exit.reason === "lost" ? "killed" : "exited");
  }

  /** Undefined where it is given up. */
  async #wait(): Promise<Exit | undefined> {
    const { control, leaving, ended } = this.#pod;
    const signal = AbortSignal.any([leaving, this.#given.signal]);
    while (!signal.aborted) {
      try {
        const exit = this.id === 0
          ? await control.wait(this.container, signal)
          : await control.waitPid(this.container, this.id, signal);
        return await this.#explained(exit, Date.now());
      } catch (error) {
        const { code, message } = SandboxError.from(error);
        if (code === "Unavailable") return endedWith(await ended);
        if (code === "NotFound") {
          return await this.#toldOthers() ??
            { status: LOST_STATUS, at: Date.now(), reason: "lost", message };
        }
        await pause(RETRY_MS);
      }
    }
    return undefined;
  }

  /** How it has ended where somebody else has heard of it, as while no sandboxer was there. */
  async #toldOthers(): Promise<Exit | undefined> {
    const kept = await this.#stdio.keptExit();
    if (kept === undefined) return undefined;
    try {
      return await this.#explained(waitPidExit(kept.answer), kept.at);
    } catch {
      // It had ended before that was asked.
      return undefined;
    }
  }

  /**
   * The host kills what serves a process for want of memory; how the process then ends is the
   * sentry's to choose.
   */
  async #explained({ status, signal }: SentryExit, at: number): Promise<Exit> {
    const reason = signal === undefined ? "exited" : "signaled";
    if (status === 0 || this.id !== 0 || this.#killed) return { status, at, reason };
    if (!await this.#pod.ranOutOfMemory()) return { status, at, reason };
    return { status, at, reason: "oom", message: "the pod ran out of memory" };
  }

  async #end(exit: Exit, how: "exited" | "killed"): Promise<void> {
    this.#over = true;
    this.#ending.resolve();
    this.#given.abort();
    await this.#stdio.finished(how);
    await this.#stdio.release();
    this.#exit.resolve(exit);
  }
}

/** How a process has ended whose sandbox has. */
function endedWith({ at, reason, message = "the pod was stopped" }: Exit): Exit {
  return { status: KILLED_STATUS, at, reason: reason === "oom" ? "oom" : "lost", message };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
