/**
 * Output of a process on its way to the one client that it is for: little of it is kept, and the
 * process waits while the client does not take it.
 *
 * @module
 */

import type { OutputName } from "./log_format.ts";
import type { Output } from "./log_reading.ts";

/** What is kept, in bytes, and what one read may add to it. */
const BYTES_MAX = 256 * 1024;

/** See the module. */
export class OutputChannel {
  readonly #queue: Output[] = [];
  #bytes = 0;
  #isOver = false;
  #error: unknown;
  #pushed = Promise.withResolvers<void>();
  #taken = Promise.withResolvers<void>();

  /** Waits until there is room. */
  async room(): Promise<void> {
    while (this.#bytes >= BYTES_MAX && !this.#isOver) await this.#taken.promise;
  }

  /** Adds a copy of some output. */
  push(stream: OutputName, bytes: Uint8Array): void {
    if (this.#isOver) return;
    this.#queue.push({ stream, bytes: bytes.slice() });
    this.#bytes += bytes.length;
    this.#pushed.resolve();
  }

  /** Nothing more comes. */
  end(): void {
    this.#isOver = true;
    this.#pushed.resolve();
    this.#taken.resolve();
  }

  /** Nothing more comes, and not even what is there counts any more. */
  fail(error: unknown): void {
    this.#error ??= error;
    this.end();
  }

  /**
   * What was added, to its end.
   *
   * @throws What {@link OutputChannel.fail} was given.
   */
  async *read(): AsyncGenerator<Output> {
    for (;;) {
      if (this.#error !== undefined) throw this.#error;
      const output = this.#queue.shift();
      if (output !== undefined) {
        this.#bytes -= output.bytes.length;
        this.#taken.resolve();
        this.#taken = Promise.withResolvers();
        yield output;
      } else if (this.#isOver) return;
      else {
        await this.#pushed.promise;
        if (!this.#isOver) this.#pushed = Promise.withResolvers();
      }
    }
  }
}
