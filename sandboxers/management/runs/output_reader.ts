/**
 * Reads the FIFO of an output, as a whole, to the end of its process: other writers may still have it
 * open then, but what the process has written is in it.
 *
 * @module
 */

import { FifoSource } from "../../host/fifo.ts";
import type { FifoKeeper } from "../../host/fifo_holder.ts";
import { Polling } from "../../host/polling.ts";
import { SandboxError } from "../../lifecycle/errors.ts";
import { turn } from "./log_reading.ts";

/** What is read at a time, in bytes: little, as a container that writes much keeps others waiting. */
const READ_BYTES = 16 * 1024;
/** After so little more is waited for, for a moment. */
const SMALL_BYTES = 4 * 1024;
/** What a process can have left in a FIFO; the rest of what comes after its end is somebody else's. */
const LEFT_BYTES_MAX = 2 ** 20;

/** What an {@link OutputReader} works with. */
export interface OutputReaderOptions {
  /** The FIFO, an absolute path. */
  readonly path: string;
  /** What it is, for messages, such as `stdout of container "a"`. */
  readonly what: string;
  /** Holds it beyond this process; undefined for what ends with it. */
  readonly keeper: FifoKeeper | undefined;
  /** Waits until more can be taken. */
  readonly room: () => Promise<void>;
  /** Takes what was read: it is good only until this returns. */
  readonly take: (bytes: Uint8Array) => void;
}

/** Reads one output. */
export class OutputReader implements Disposable {
  readonly #options: OutputReaderOptions;
  readonly #source: FifoSource;
  readonly #polling = new Polling();
  #isEnding = false;
  /** Settles when all was read; rejects where it cannot be read. */
  readonly done: Promise<void>;

  /**
   * Begins.
   *
   * @param options See {@link OutputReaderOptions}.
   * @throws {SandboxError} `NotFound`, `PermissionDenied`.
   */
  constructor(options: OutputReaderOptions) {
    this.#options = options;
    this.#source = new FifoSource(options.path, options.what, options.keeper);
    this.done = this.#read();
    this.done.catch(() => undefined);
  }

  async #read(): Promise<void> {
    const { room, take } = this.#options;
    const buffer = new Uint8Array(READ_BYTES);
    let leftBytes = LEFT_BYTES_MAX;
    try {
      while (!this.#polling.over) {
        await room();
        const wasEnding = this.#isEnding;
        const count = this.#source.readNow(buffer);
        if (count === 0) return;
        if (count === undefined) {
          if (wasEnding) return;
          await this.#polling.pause();
          continue;
        }
        take(buffer.subarray(0, count));
        if (wasEnding && (leftBytes -= count) <= 0) return;
        // Many small writes are taken together, the longer they go on: a piece costs more than its
        // bytes. Who waits for an answer says so: see expect().
        if (count < SMALL_BYTES && !this.#isEnding) {
          await this.#polling.pause();
          continue;
        }
        this.#polling.reset();
        await turn();
      }
    } catch (error) {
      throw SandboxError.from(error, `cannot read ${this.#options.what}`);
    } finally {
      this[Symbol.dispose]();
    }
  }

  /** Something may be there soon: it is looked for more often for a moment. */
  expect(): void {
    this.#polling.wake();
  }

  /** Its process has ended: once the FIFO is empty, all was read. */
  finish(): void {
    this.#isEnding = true;
    this.#source.letEnd();
    this.#polling.wake();
  }

  /** Closes it; what was not read is left. */
  [Symbol.dispose](): void {
    this.#source[Symbol.dispose]();
    this.#polling[Symbol.dispose]();
  }
}
