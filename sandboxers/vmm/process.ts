/**
 * A process in a guest, as the lifecycle sees it: calls go to the agent, its end comes from the
 * agent, and counts only once its output was written.
 *
 * @module
 */

import type { ProcessExit, ProcessName } from "../../guest/protocol/messages.ts";
import type { ProcessHandle } from "../lifecycle/driver.ts";
import { type Exit, KILLED_STATUS } from "../lifecycle/spec.ts";
import type { Agent } from "./agent.ts";

/** The streams of a process; see stdio.ts. */
export interface ProcessStreams {
  /** Settles when all output was written, or nobody can be waited for any more; never rejects. */
  finished(end: "exited" | "killed"): Promise<void>;
  /** Lets the process read the end of its input. */
  closeStdin(): Promise<void>;
  /** Releases everything. */
  [Symbol.dispose](): void;
}

/** A process. */
export class VmProcess implements ProcessHandle {
  readonly #agent: Agent;
  readonly #streams: ProcessStreams;
  readonly #exit = Promise.withResolvers<Exit>();
  #over = false;
  #settled = false;

  /**
   * Describes a process that is about to be started, or runs already.
   *
   * @param agent The agent of its guest.
   * @param name Its name there.
   * @param pid The id of the VMM: ids inside of the guest mean nothing on the host.
   * @param streams Its streams; the new object owns them.
   */
  constructor(
    agent: Agent,
    readonly name: ProcessName,
    readonly pid: number,
    streams: ProcessStreams,
  ) {
    this.#agent = agent;
    this.#streams = streams;
  }

  /** Settles when it has ended and its output was written. */
  get exited(): Promise<Exit> {
    return this.#exit.promise;
  }

  /** Whether it has ended. */
  get over(): boolean {
    return this.#over;
  }

  /** Sends a signal. */
  async kill(signal: number): Promise<void> {
    if (this.#over) return;
    await this.#agent.request("kill", { ...this.name, signal });
  }

  /** Sets the size of its terminal. */
  async resize(columns: number, rows: number): Promise<void> {
    if (this.#over) return;
    await this.#agent.request("resize", { ...this.name, columns, rows });
  }

  /** Lets it read the end of its input. */
  async closeStdin(): Promise<void> {
    await this.#streams.closeStdin();
  }

  /**
   * Takes note of its end; later calls do nothing.
   *
   * @param exit What the agent says.
   */
  async ended(exit: ProcessExit): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    const { status, atMs, oom, signaled } = exit;
    await this.#streams.finished(signaled ? "killed" : "exited");
    this.#settle({
      status,
      at: atMs,
      reason: oom ? "oom" : signaled ? "signaled" : "exited",
      ...(oom ? { message: "the container ran out of memory" } : {}),
    });
  }

  /**
   * Takes note of the end of its guest; later calls do nothing. Where it has ended before, that
   * counts, and what has come of its output.
   *
   * @param exit How the guest ended.
   */
  async lost(exit: Exit): Promise<void> {
    if (this.#settled) return;
    if (this.#over) {
      await this.#streams.finished("killed");
      this.#streams[Symbol.dispose]();
      await this.#exit.promise;
      return;
    }
    this.#over = true;
    await this.#streams.finished("killed");
    const { at, message = "the pod was stopped" } = exit;
    this.#settle({ status: KILLED_STATUS, at, reason: "lost", message });
  }

  #settle(exit: Exit): void {
    this.#settled = true;
    this.#streams[Symbol.dispose]();
    this.#exit.resolve(exit);
  }
}
