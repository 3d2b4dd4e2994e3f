/**
 * Moves bytes from a source to a sink, both on this host: for streams of this process, which cannot
 * be handed to another one.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";
import type { ByteSink, ByteSource } from "./byte_ends.ts";

const BUFFER_BYTES = 16 * 1024;

/** Moves bytes until either end ends. It owns both. */
export class BytePump implements Disposable {
  readonly #source: ByteSource;
  readonly #sink: ByteSink;
  readonly #onError: (error: SandboxError) => void;
  #over = false;
  #progress = 0;
  #isWriting = false;
  /** Settles when all was written and the sink is closed, or it was given up; never rejects. */
  readonly done: Promise<void>;

  /**
   * Begins.
   *
   * @param source Where from.
   * @param sink Where to.
   * @param onError Called when either fails.
   */
  constructor(source: ByteSource, sink: ByteSink, onError: (error: SandboxError) => void) {
    this.#source = source;
    this.#sink = sink;
    this.#onError = onError;
    this.done = this.#move();
  }

  /** Counts what was moved: whether anything moves. */
  get progress(): number {
    return this.#progress;
  }

  /** Whether it is the sink's reader that is waited for, and that one may take its time. */
  get isPatient(): boolean {
    return this.#isWriting && this.#sink.isPatient === true;
  }

  async #move(): Promise<void> {
    const buffer = new Uint8Array(BUFFER_BYTES);
    try {
      while (!this.#over) {
        const count = await this.#source.read(buffer);
        if (count === null || count === 0) break;
        await this.#write(buffer.subarray(0, count));
      }
      if (!this.#over) await this.#sink.close();
    } catch (error) {
      if (!this.#over) this.#onError(SandboxError.from(error, "cannot move bytes"));
    }
    this[Symbol.dispose]();
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.#isWriting = true;
    for (let rest = bytes; rest.length > 0 && !this.#over;) {
      rest = rest.subarray(await this.#sink.write(rest));
      this.#progress++;
    }
    this.#isWriting = false;
  }

  /** The source ends as soon as nobody else writes to it. */
  letEnd(): void {
    if (!this.#over) this.#source.letEnd();
  }

  /** Gives up at once: bytes that were not written are lost. */
  [Symbol.dispose](): void {
    if (this.#over) return;
    this.#over = true;
    this.#source[Symbol.dispose]();
    this.#sink[Symbol.dispose]();
  }
}
