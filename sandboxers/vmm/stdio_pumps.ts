/**
 * Moves bytes between the streams of a guest's process and where they come from or go to on the
 * host. Bytes are acknowledged to the guest when they were written, not before.
 *
 * @module
 */

import type { InboundStream, OutboundStream } from "../../guest/protocol/peer.ts";
import { SandboxError } from "../lifecycle/errors.ts";
import type { ByteSink, ByteSource } from "../host/byte_ends.ts";

/** Moves an output of a process to its sink, until either ends. It owns both. */
export class OutputPump implements Disposable {
  readonly #stream: InboundStream;
  readonly #sink: ByteSink;
  readonly #done = Promise.withResolvers<void>();
  readonly #onError: (error: SandboxError) => void;
  #waiting = false;
  #over = false;
  /** Counts writes: whether anything moves. */
  progress = 0;

  /**
   * Begins.
   *
   * @param stream Where from.
   * @param sink Where to.
   * @param onError Called when the sink takes no more.
   */
  constructor(stream: InboundStream, sink: ByteSink, onError: (error: SandboxError) => void) {
    this.#stream = stream;
    this.#sink = sink;
    this.#onError = onError;
    stream.onReadable = () => this.#move();
    this.#move();
  }

  /** Settles when all was written and the sink is closed, or it was given up; never rejects. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  /** Whether bytes are here that were not written. */
  get hasBytes(): boolean {
    return this.#stream.peek() !== undefined;
  }

  /** Whether the sink has or had a reader. */
  get hadReader(): boolean {
    return this.#sink.hadReader;
  }

  /** Whether it is the sink's reader that is waited for, and that one may take its time. */
  get isPatient(): boolean {
    return this.#sink.isPatient === true && this.hasBytes;
  }

  #move(): void {
    while (!this.#waiting && !this.#over) {
      const bytes = this.#stream.peek();
      if (bytes === undefined) {
        if (this.#stream.ended || this.#stream.resetBy !== undefined) void this.#finish();
        return;
      }
      try {
        const written = this.#sink.write(bytes);
        if (typeof written === "number") this.#written(written);
        else void this.#wait(written);
      } catch (error) {
        this.#fail(error);
      }
    }
  }

  async #wait(writing: Promise<number>): Promise<void> {
    this.#waiting = true;
    try {
      const written = await writing;
      if (!this.#over) this.#written(written);
    } catch (error) {
      this.#fail(error);
    }
    this.#waiting = false;
    this.#move();
  }

  #written(bytes: number): void {
    this.progress++;
    this.#stream.consume(bytes);
  }

  /** The process goes on; what it writes is thrown away. */
  #fail(error: unknown): void {
    if (this.#over) return;
    this.#onError(SandboxError.from(error, "cannot write the output of a process"));
    this[Symbol.dispose]();
  }

  async #finish(): Promise<void> {
    if (this.#over) return;
    this.#over = true;
    await this.#sink.close().catch(() => undefined);
    this.#done.resolve();
  }

  /** Gives up at once: bytes that were not written are lost. */
  [Symbol.dispose](): void {
    if (!this.#over) {
      this.#over = true;
      this.#sink[Symbol.dispose]();
    }
    this.#stream.reset("the output is no longer wanted");
    this.#done.resolve();
  }
}

/** Moves bytes from a source to the input of a process, until either ends. It owns both. */
export class InputPump implements Disposable {
  readonly #stream: OutboundStream;
  readonly #source: ByteSource;
  readonly #onError: (error: SandboxError) => void;
  #wake: () => void = () => undefined;
  #over = false;

  /**
   * Begins.
   *
   * @param stream Where to.
   * @param source Where from.
   * @param onError Called when the source cannot be read; the process then reads the end.
   */
  constructor(stream: OutboundStream, source: ByteSource, onError: (error: SandboxError) => void) {
    this.#stream = stream;
    this.#source = source;
    this.#onError = onError;
    stream.onWritable = () => this.#wake();
    stream.onClosed = () => this.#release();
    if (stream.resetBy === undefined) void this.#move();
    else this.#release();
  }

  async #move(): Promise<void> {
    try {
      while (!this.#over) {
        const room = this.#stream.reserve();
        if (room === undefined) {
          await this.#writable();
          continue;
        }
        const reading = this.#source.read(room);
        const count = typeof reading === "number" ? reading : await reading;
        if (this.#over) break;
        if (count === null || count === 0) {
          this.#stream.end();
          break;
        }
        this.#stream.commit(count);
      }
    } catch (error) {
      if (!this.#over) {
        this.#onError(SandboxError.from(error, "cannot read the input of a process"));
        this.#stream.end();
      }
    }
    this.#release();
  }

  #writable(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    return promise;
  }

  /** The process reads the end once nobody else writes to the source. */
  letEnd(): void {
    if (!this.#over) this.#source.letEnd();
  }

  #release(): void {
    if (this.#over) return;
    this.#over = true;
    this.#source[Symbol.dispose]();
    this.#wake();
  }

  /** Gives up at once. */
  [Symbol.dispose](): void {
    this.#release();
    this.#stream.reset("the input is no longer there");
  }
}
