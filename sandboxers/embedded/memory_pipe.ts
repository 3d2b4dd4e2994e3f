/**
 * A pipe between two parts of this process: what is written at one end is read at the other. It holds
 * a bounded number of bytes, like a pipe of the kernel, and can be ended whoever holds its streams.
 *
 * @module
 */

import { SandboxError } from "../lifecycle/errors.ts";

/** How many bytes wait to be read before a writer has to wait: as many as in a pipe of Linux. */
const BUFFER_BYTES = 64 * 1024;

/** A pipe. */
export class MemoryPipe {
  /** What was written, up to the end. */
  readonly readable: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** What is to be read. */
  readonly writable: WritableStream<Uint8Array>;
  readonly #label: string;
  #controller: TransformStreamDefaultController<Uint8Array<ArrayBuffer>> | undefined;

  /**
   * Opens a pipe.
   *
   * @param label Whose it is, for messages, such as `stdin of container "a"`.
   */
  constructor(label: string) {
    this.#label = label;
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array<ArrayBuffer>>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        // A copy: the writer may use its buffer again.
        transform: (chunk, controller) => controller.enqueue(new Uint8Array(chunk)),
      },
      { highWaterMark: 1 },
      new ByteLengthQueuingStrategy({ highWaterMark: BUFFER_BYTES }),
    );
    this.readable = readable;
    this.writable = writable;
  }

  /** Nothing comes any more: readers find the end after what is there, writers fail. */
  end(): void {
    this.#controller?.terminate();
  }

  /** Nobody reads any more: what is there is thrown away, and writers fail. */
  abandon(): void {
    this.#controller?.error(
      new SandboxError(
        "FailedPrecondition",
        `cannot write ${this.#label}: nobody reads it any more`,
      ),
    );
  }
}
