/**
 * FIFOs as containerd makes them for a container's streams, and the ends that a client holds.
 *
 * @module
 */

import { Socket, type SocketConstructorOpts } from "node:net";
import { DEFAULT_LIBRARY_PATH } from "../../sandboxers/wasm/native/library.ts";
import { OPEN } from "../../sandboxers/wasm/native/syscalls.ts";
import { System } from "../../sandboxers/wasm/native/system.ts";
import { run } from "../support/command.ts";

/** Descriptors that Deno does not know of: only from such a socket can be made safely. */
const system = new System(DEFAULT_LIBRARY_PATH);

/** Most characters that a {@link FifoReader} keeps. */
const TEXT_MAX = 4 << 20;

/**
 * Makes FIFOs.
 *
 * @param paths Where.
 */
export async function makeFifos(...paths: readonly [string, ...string[]]): Promise<void> {
  await run(["mkfifo", ...paths]);
}

/** Reads a FIFO by the event loop, without a thread that waits. */
export class FifoReader implements Disposable {
  readonly #socket: Socket;
  readonly #hold = new DisposableStack();
  readonly #ended = Promise.withResolvers<void>();
  readonly #decoder = new TextDecoder();
  #text = "";
  #bytes = 0;
  #waiting: (() => void)[] = [];

  /**
   * Opens the end to read from. Until {@link FifoReader.follow} it waits for a first writer.
   *
   * @param path The FIFO.
   * @param keep Whether the text is kept, not only counted.
   */
  constructor(path: string, keep = true) {
    const fd = system.open(path, OPEN.readOnly | OPEN.nonblocking, "the FIFO");
    // Without any writer the first read would be the end already.
    this.#hold.adopt(system.open(path, OPEN.writeOnly, "the FIFO"), (held) => system.close(held));
    const options: SocketConstructorOpts = { fd, readable: true, writable: false };
    this.#socket = new Socket(options);
    this.#socket.on("data", (chunk: Uint8Array) => {
      this.#bytes += chunk.length;
      if (keep && this.#text.length < TEXT_MAX) {
        this.#text += this.#decoder.decode(chunk, { stream: true });
      }
      this.#wake();
    });
    this.#socket.on("error", () => this.#socket.destroy());
    this.#socket.on("close", () => {
      this.#ended.resolve();
      this.#wake();
    });
  }

  /** From now on the end comes when no writer is left. */
  follow(): void {
    this.#hold.dispose();
  }

  /** What was read so far. */
  get text(): string {
    return this.#text;
  }

  /** How many bytes were read so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Settles when all writers are gone, or it was closed. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** Settles when more was read, or it has ended. */
  more(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** Closes the end. */
  [Symbol.dispose](): void {
    this.#hold.dispose();
    this.#socket.destroy();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}

/** Writes to a FIFO by the event loop. */
export class FifoWriter implements Disposable {
  readonly #socket: Socket;

  /**
   * Opens the end to write to; it need not have a reader yet.
   *
   * @param path The FIFO.
   */
  constructor(path: string) {
    // For both, as only that never waits for a reader.
    const fd = system.open(path, OPEN.readWrite | OPEN.nonblocking, "the FIFO");
    const options: SocketConstructorOpts = { fd, readable: false, writable: true };
    this.#socket = new Socket(options);
    this.#socket.on("error", () => this.#socket.destroy());
  }

  /**
   * Writes a text.
   *
   * @returns Whether there is room for more; else wait for {@link FifoWriter.drained}.
   */
  write(text: string): boolean {
    return this.#socket.write(text);
  }

  /** Settles when there is room again. */
  drained(): Promise<void> {
    return new Promise((resolve) => this.#socket.once("drain", () => resolve()));
  }

  /** Closes the end. */
  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
