/**
 * Standard input of a process: what clients send goes into its FIFO, in order.
 *
 * @module
 */

import { FifoSink } from "../../host/fifo.ts";

/** The input of one process. */
export class ProcessInput implements Disposable {
  readonly #path: string;
  readonly #what: string;
  readonly #end: () => Promise<void>;
  #sink: FifoSink | undefined;
  #turn: Promise<void> = Promise.resolve();
  #isOver = false;

  /**
   * Opens nothing yet.
   *
   * @param path The FIFO, an absolute path.
   * @param what What it is, for messages, such as `stdin of container "a"`.
   * @param end Lets the process read the end, once nobody writes to the FIFO any more.
   */
  constructor(path: string, what: string, end: () => Promise<void>) {
    this.#path = path;
    this.#what = what;
    this.#end = end;
  }

  /** Writes; resolves when the process's FIFO has taken all, or it is over. Never rejects. */
  write(bytes: Uint8Array): Promise<void> {
    return this.#inTurn(async () => {
      const sink = this.#sink ??= new FifoSink(this.#path, this.#what);
      for (let rest = bytes; rest.length > 0 && !this.#isOver;) {
        rest = rest.subarray(await sink.write(rest));
      }
    });
  }

  /** Lets the process read the end, after all that was written. Never rejects. */
  close(): Promise<void> {
    return this.#inTurn(async () => {
      const sink = this.#sink;
      this.#sink = undefined;
      this.#isOver = true;
      await sink?.close();
      await this.#end();
    });
  }

  /** A process that has ended, or closed its input, is no reason for anybody to fail. */
  #inTurn(work: () => Promise<void>): Promise<void> {
    this.#turn = this.#turn.then(async () => {
      if (this.#isOver) return;
      await work().catch(() => undefined);
    });
    return this.#turn;
  }

  /** Closes it; what waits is given up. */
  [Symbol.dispose](): void {
    this.#isOver = true;
    this.#sink?.[Symbol.dispose]();
    this.#sink = undefined;
  }
}
