/**
 * Descriptors that have arrived at a pod process and wait for the call that names them. They come on
 * a connection of their own, so they may be here before the call or after it.
 *
 * @module
 */

import { SandboxError } from "../../lifecycle/errors.ts";

/** Most tickets that wait for their call. */
const WAITING_MAX = 64;
/** How long a call waits for its descriptors, and descriptors for their call. */
const WAIT_MS = 10_000;

/** Descriptors of one ticket. Disposing of them closes those that are still open. */
export class PassedDescriptors implements Disposable {
  readonly #close: (fd: number) => void;
  readonly #open: Set<number>;

  /**
   * Takes descriptors over.
   *
   * @param descriptors In the order in which they were sent.
   * @param close Closes one.
   */
  constructor(readonly descriptors: readonly number[], close: (fd: number) => void) {
    this.#close = close;
    this.#open = new Set(descriptors);
  }

  /** Closes one of them before the others. */
  close(fd: number): void {
    if (this.#open.delete(fd)) this.#close(fd);
  }

  /** Hands them over to a new owner; disposing of this one then does nothing. */
  move(): PassedDescriptors {
    const moved = new PassedDescriptors([...this.#open], this.#close);
    this.#open.clear();
    return moved;
  }

  /** Closes them. */
  [Symbol.dispose](): void {
    for (const fd of [...this.#open]) this.close(fd);
  }
}

/** Keeps descriptors until they are asked for. */
export class Tickets {
  readonly #close: (fd: number) => void;
  readonly #waitMs: number;
  readonly #arrived = new Map<number, PassedDescriptors>();
  readonly #wanted = new Map<number, () => void>();

  /**
   * Keeps none yet.
   *
   * @param close Closes a descriptor.
   * @param waitMs See the constant.
   */
  constructor(close: (fd: number) => void, waitMs: number = WAIT_MS) {
    this.#close = close;
    this.#waitMs = waitMs;
  }

  /** Takes in what has arrived. What nobody asks for in time is closed. */
  add(ticket: number, descriptors: readonly number[]): void {
    const passed = new PassedDescriptors(descriptors, this.#close);
    if (this.#arrived.has(ticket) || this.#arrived.size >= WAITING_MAX) {
      passed[Symbol.dispose]();
      return;
    }
    this.#arrived.set(ticket, passed);
    setTimeout(() => this.#drop(ticket, passed), this.#waitMs);
    this.#wanted.get(ticket)?.();
  }

  /**
   * The descriptors of a ticket, as soon as they are here. The caller disposes of them.
   *
   * @param ticket 0 for none.
   * @throws {SandboxError} `DeadlineExceeded` when they do not arrive.
   */
  async take(ticket: number): Promise<PassedDescriptors> {
    if (ticket === 0) return new PassedDescriptors([], this.#close);
    if (!this.#arrived.has(ticket)) await this.#wait(ticket);
    const passed = this.#arrived.get(ticket);
    this.#arrived.delete(ticket);
    if (passed !== undefined) return passed;
    throw new SandboxError(
      "DeadlineExceeded",
      `cannot take over descriptors: those of ticket ${ticket} did not arrive`,
    );
  }

  #drop(ticket: number, passed: PassedDescriptors): void {
    if (this.#arrived.get(ticket) !== passed) return;
    this.#arrived.delete(ticket);
    passed[Symbol.dispose]();
  }

  async #wait(ticket: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, this.#waitMs);
    this.#wanted.set(ticket, resolve);
    await promise;
    clearTimeout(timer);
    this.#wanted.delete(ticket);
  }
}
