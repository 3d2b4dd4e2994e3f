/**
 * One connection between sandboxer and pod process as a stream of JSON values both ways. What is no
 * frame ends the connection, and so does a reader that lets too much queue up; neither ends more.
 *
 * @module
 */

import { Socket, type SocketConstructorOpts } from "node:net";
import { encodeFrame, FrameDecoder } from "./frames.ts";

/** Most bytes that may wait for a reader: two of the largest frames. */
const QUEUE_BYTES_MAX = 33_554_432;

/** Who hears of a connection. Neither may throw. */
export interface ChannelListener {
  /** A value arrived. */
  onValue(value: unknown): void;
  /** The connection is over; called once. `reason` is for the log. */
  onClose(reason: string): void;
}

/** An open connection. */
export class Channel {
  readonly #socket: Socket;
  readonly #decoder = new FrameDecoder();
  readonly #listener: ChannelListener;
  readonly #over = Promise.withResolvers<void>();
  #closed = false;
  #written: Promise<void> = Promise.resolve();

  /**
   * Takes a connected descriptor over.
   *
   * @param fd Non-blocking; closed with the channel.
   * @param listener Hears of values and of the end.
   */
  constructor(fd: number, listener: ChannelListener) {
    this.#listener = listener;
    // A socket made from a descriptor is polled by the event loop and needs no permission for a path.
    const options: SocketConstructorOpts = { fd, readable: true, writable: true };
    this.#socket = new Socket(options);
    this.#socket.on("data", (chunk: Uint8Array) => this.#onData(chunk));
    this.#socket.on("error", (error: Error) => this.close(error.message));
    this.#socket.on("end", () => this.close("the other side has closed it"));
    this.#socket.on("close", () => this.close("it was closed"));
  }

  /** Whether values can be sent. */
  get open(): boolean {
    return !this.#closed;
  }

  /** Lets the process end while this is open. */
  unref(): void {
    this.#socket.unref();
  }

  /**
   * Sends a value; nothing happens once the connection is over.
   *
   * @throws {SandboxError} `ResourceExhausted` when it is too large for one frame.
   */
  send(value: unknown): void {
    if (this.#closed) return;
    const frame = encodeFrame(value);
    this.#written = new Promise((resolve) => this.#socket.write(frame, () => resolve()));
    if (this.#socket.writableLength > QUEUE_BYTES_MAX) this.close("its reader does not read");
  }

  /** Resolves when all that was sent has been handed to the kernel, or the connection is over. */
  async flushed(): Promise<void> {
    await Promise.race([this.#written, this.#over.promise]);
  }

  /** Ends the connection. */
  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#over.resolve();
    this.#socket.destroy();
    this.#listener.onClose(reason);
  }

  #onData(chunk: Uint8Array): void {
    if (this.#closed) return;
    let values: unknown[];
    try {
      values = this.#decoder.push(chunk);
    } catch (error) {
      this.close(error instanceof Error ? error.message : String(error));
      return;
    }
    for (const value of values) this.#listener.onValue(value);
  }
}
